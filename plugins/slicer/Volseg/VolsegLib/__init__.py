"""The parts of the module that know nothing of Slicer, Qt or VTK: they are tested without any of them."""
