"""Slicer's own parser and CLI engine, from PyPI's `slicer-core`, without Slicer's window.

`slicer-core` has no call for the module parser, which Slicer's window makes from C++; it is called here through ctypes.
"""
import ctypes
import time
from pathlib import Path

import slicer
import slicer_core
import vtk

LIBRARIES = Path(slicer_core.__file__).parent
_kept = []


def _text(value):
    """A std::string of the old C++ ABI (the one of manylinux2014), shared and never freed."""
    data = value.encode()
    head = (ctypes.c_size_t * 3)(len(data), len(data), 1 << 20)
    block = ctypes.create_string_buffer(bytes(head) + data + b"\0")
    pointer = ctypes.c_void_p(ctypes.addressof(block) + ctypes.sizeof(head))
    _kept.extend((block, pointer))
    return ctypes.byref(pointer)


def register(xml, executable):
    """Parses a module description as Slicer does at its start and registers it. Raises if the parser refuses it."""
    parser = ctypes.CDLL(str(next((LIBRARIES / "third_party.libs").glob("libModuleDescriptionParser.so"))))
    command_line = ctypes.CDLL(str(LIBRARIES / "libMRMLCLI.so"))
    description = ctypes.create_string_buffer(1 << 16)
    instance = ctypes.create_string_buffer(1 << 12)
    _kept.extend((description, instance))
    parser._ZN17ModuleDescriptionC1Ev(description)
    failed = parser._ZN23ModuleDescriptionParser5ParseERKSsR17ModuleDescription(instance, _text(xml), description)
    if failed:
        raise ValueError("Slicer's parser refuses the description")
    for setter, value in (("7SetTypeERKSs", "CommandLineModule"), ("9SetTargetERKSs", str(executable)),
                          ("11SetLocationERKSs", str(executable))):
        getattr(parser, "_ZN17ModuleDescription" + setter)(description, _text(value))
    command_line._ZN28vtkMRMLCommandLineModuleNode25RegisterModuleDescriptionE17ModuleDescription(description)


class Engine:
    """A scene, Slicer's application logic, and its CLI logic."""

    def __init__(self, temporary):
        self.scene = slicer.vtkMRMLScene()
        self.application = slicer.vtkSlicerApplicationLogic()
        self.application.SetMRMLScene(self.scene)
        self.application.SetTemporaryPath(str(temporary))
        self.data = slicer.vtkMRMLRemoteIOLogic()
        self.data.SetMRMLScene(self.scene)
        # Reading results asks the scene's cache whether a file is remote.
        self.data.AddDataIOToScene()
        self.segmentations = slicer.vtkSlicerSegmentationsModuleLogic()
        self.segmentations.SetMRMLScene(self.scene)
        self.segmentations.SetMRMLApplicationLogic(self.application)
        self.logic = slicer.vtkSlicerCLIModuleLogic()
        self.logic.SetMRMLScene(self.scene)
        self.logic.SetMRMLApplicationLogic(self.application)
        self.logic.SetDeleteTemporaryFiles(1)
        self.logic.SetAllowInMemoryTransfer(0)
        self.application.CreateProcessingThread()

    def add(self, kind, name):
        return self.scene.AddNewNodeByClass(kind, name)

    def start(self, title, **parameters):
        """Starts a run in the engine's own thread."""
        node = self.scene.AddNode(slicer.vtkMRMLCommandLineModuleNode())
        node.SetModuleDescription(title)
        for name, value in parameters.items():
            if isinstance(value, bool):
                node.SetParameterAsBool(name, value)
            else:
                node.SetParameterAsString(name, str(value))
        self.logic.Apply(node, False)
        return node

    def turn(self):
        """What Slicer's event loop does between two looks at the window."""
        self.application.ProcessModified()
        self.application.ProcessReadData()
        self.application.ProcessWriteData()

    def wait(self, node, until=None, seconds=300):
        """Turns until the run has ended (or `until` holds); all values of the progress bar that were seen."""
        seen = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn()
            # After its end a run's bar stands at 0 again.
            if node.GetStatus() == node.Running:
                seen.append(node.GetProgress())
            if (until and until(node)) or not node.IsBusy():
                for _ in range(20):
                    self.turn()
                return seen
            time.sleep(0.01)
        raise TimeoutError("the run did not end")

    def stop(self):
        self.application.TerminateProcessingThread()


def matrix(rows):
    m = vtk.vtkMatrix4x4()
    for r in range(4):
        for c in range(4):
            m.SetElement(r, c, float(rows[r][c]))
    return m
