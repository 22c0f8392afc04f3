"""The parts of the module that need Slicer: runs and clicks."""
