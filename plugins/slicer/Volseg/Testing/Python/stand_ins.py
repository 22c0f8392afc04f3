"""Thin stand-ins for what Slicer brings (`slicer`, `qt`, `vtk`), so that the module's logic runs in plain Python.

They hold what the module uses and nothing else: an unknown name is an AttributeError, as in Slicer.
"""

import os
import subprocess
import sys
import tempfile
import types
import xml.etree.ElementTree as ElementTree

MODULE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


class Signals:
    """Anything with Qt's old connect; `fire` calls the slots."""

    def __init__(self):
        self.slots = {}

    def connect(self, signal, slot):
        self.slots.setdefault(signal, []).append(slot)

    def fire(self, signal, *values):
        for slot in self.slots.get(signal, []):
            slot(*values)


class Widget(Signals):
    def __init__(self, name=""):
        Signals.__init__(self)
        self.objectName = name
        self.text, self.toolTip, self.value, self.checked, self.enabled = "", "", 0, False, True
        self.currentText, self.node, self.pixmap, self.style = "auto", None, None, ""
        self.items, self.lines = [], []

    def currentNode(self):
        return self.node

    def setCurrentNode(self, node):
        self.node = node
        self.fire("currentNodeChanged(vtkMRMLNode*)", node)

    def appendPlainText(self, text):
        self.lines.append(text)

    def setPixmap(self, pixmap):
        self.pixmap = pixmap

    def clear(self):
        self.pixmap = None

    def setStyleSheet(self, style):
        self.style = style

    @property
    def count(self):
        return len(self.items)

    def item(self, n):
        return self.items[n]

    def addItem(self, item):
        self.items.append(item)


class ListItem:
    def __init__(self, text):
        self.shown, self.values, self.state, self.hidden = text, {}, 0, False

    def text(self):
        return self.shown

    def setData(self, role, value):
        self.values[role] = value

    def data(self, role):
        return self.values[role]

    def flags(self):
        return 0

    def setFlags(self, flags):
        pass

    def setCheckState(self, state):
        self.state = state

    def checkState(self):
        return self.state

    def setHidden(self, hidden):
        self.hidden = hidden


class Bytes:
    def __init__(self, content=b""):
        self.content = content

    def data(self):
        return self.content


class Process(Signals):
    """QProcess around a real process; the test turns it with `end()`."""

    NotRunning = 0

    def __init__(self):
        Signals.__init__(self)
        self.process, self.out, self.err, self.problem = None, b"", b"", ""

    def setProcessEnvironment(self, environment):
        self.environment = environment.values

    def start(self, executable, arguments):
        try:
            self.process = subprocess.Popen([executable] + arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=subprocess.PIPE, env=self.environment)
        except OSError as problem:
            self.problem = problem.strerror
            self.fire("errorOccurred(QProcess::ProcessError)", 0)

    def end(self):
        self.out, self.err = self.process.communicate()
        self.fire("readyReadStandardOutput()")
        self.fire("finished(int,QProcess::ExitStatus)", self.process.returncode, 0)

    def readAllStandardOutput(self):
        out, self.out = self.out, b""
        return Bytes(out)

    def readAllStandardError(self):
        err, self.err = self.err, b""
        return Bytes(err)

    def kill(self):
        self.process.kill()

    def state(self):
        return Process.NotRunning if self.process is None or self.process.poll() is not None else 2

    def processId(self):
        return self.process.pid if self.process else 0

    def errorString(self):
        return self.problem


class Environment:
    def __init__(self):
        self.values = {}

    def insert(self, name, value):
        self.values[name] = value


class Settings:
    kept = {}

    def value(self, name):
        return self.kept.get(name)

    def setValue(self, name, value):
        self.kept[name] = value


class Timer(Signals):
    def setInterval(self, milliseconds):
        self.interval = milliseconds

    def start(self):
        self.running = True

    def stop(self):
        self.running = False

    @staticmethod
    def singleShot(_milliseconds, work):
        work()


class Pixmap:
    def loadFromData(self, content):
        self.content = content
        return True

    def scaled(self, *_size):
        return self


class Matrix:
    def __init__(self, rows=None):
        self.rows = rows or [[float(r == c) for c in range(4)] for r in range(4)]

    def GetElement(self, row, column):
        return self.rows[row][column]


class Transform:
    """The identity: nodes of the tests have no parent transform."""

    def TransformPoint(self, point):
        return list(point)


class Node:
    def __init__(self, kind, name):
        self.kind, self.name, self.observers = kind, name, {}

    def GetID(self):
        return self.kind + str(id(self))

    def GetName(self):
        return self.name

    def GetParentTransformNode(self):
        return None

    def CreateDefaultDisplayNodes(self):
        pass

    def GetMTime(self):
        return 1


class Image:
    def __init__(self, dimensions):
        self.dimensions, self.time = dimensions, 1

    def GetDimensions(self):
        return self.dimensions

    def GetMTime(self):
        return self.time


class Volume(Node):
    """A volume whose file is given: `path` is copied where Slicer would write it."""

    def __init__(self, name, path=None, dimensions=(8, 6, 4), ras_to_ijk=None):
        Node.__init__(self, "vtkMRMLScalarVolumeNode", name)
        self.path, self.image, self.ras_to_ijk = path, Image(dimensions), ras_to_ijk or Matrix().rows

    def GetImageData(self):
        return self.image

    def GetRASToIJKMatrix(self, matrix):
        matrix.rows = self.ras_to_ijk


class Markups(Node):
    PositionDefined = 2
    PointPositionDefinedEvent = 19001

    def __init__(self, points=(), undefined=()):
        Node.__init__(self, "vtkMRMLMarkupsFiducialNode", "points")
        self.points, self.undefined = [list(p) for p in points], set(undefined)

    def GetNumberOfControlPoints(self):
        return len(self.points)

    def GetNthControlPointPositionStatus(self, n):
        return 1 if n in self.undefined else self.PositionDefined

    def GetNthControlPointPositionWorld(self, n, out):
        out[:] = self.points[n]


class Roi(Node):
    def __init__(self, centre, size, axes=None):
        Node.__init__(self, "vtkMRMLMarkupsROINode", "box")
        self.size = size
        axes = axes or [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        self.matrix = Matrix([[*axes[r], centre[r]] for r in range(3)] + [[0, 0, 0, 1]])

    def GetSize(self, out):
        out[:] = self.size

    def GetObjectToWorldMatrix(self):
        return self.matrix


class Segments:
    def __init__(self):
        self.segments = {}

    def GetSegment(self, identity):
        return self.segments.get(identity)

    def AddEmptySegment(self, identity, name):
        self.segments[identity] = name

    def RemoveSegment(self, identity):
        del self.segments[identity]

    def CopySegmentFromSegmentation(self, other, identity):
        self.segments[identity] = other.segments[identity]

    def GetNumberOfSegments(self):
        return len(self.segments)

    def GetNthSegmentID(self, n):
        return list(self.segments)[n]


class Segmentation(Node):
    def __init__(self, name="segmentation"):
        Node.__init__(self, "vtkMRMLSegmentationNode", name)
        self.segmentation, self.arrays = Segments(), {}

    def GetSegmentation(self):
        return self.segmentation

    def SetReferenceImageGeometryParameterFromVolumeNode(self, volume):
        self.reference = volume


class Storage(Node):
    """Reads the segment names out of a .seg.nrrd header."""

    def SetFileName(self, path):
        self.path = path

    def ReadData(self, node):
        try:
            with open(self.path, "rb") as file:
                head = file.read().split(b"\n\n")[0].decode("utf-8", "replace").splitlines()
        except OSError:
            return 0
        pairs = dict(line.split(":=", 1) for line in head if ":=" in line)
        n = 0
        while f"Segment{n}_ID" in pairs:
            node.segmentation.segments[pairs[f"Segment{n}_ID"]] = pairs[f"Segment{n}_Name"]
            n += 1
        return 1


class Scene:
    EndCloseEvent = 66003

    def __init__(self):
        self.nodes = []

    def AddNewNodeByClass(self, kind, name=""):
        kinds = {"vtkMRMLSegmentationNode": Segmentation, "vtkMRMLMarkupsFiducialNode": lambda _name: Markups()}
        node = kinds[kind](name) if kind in kinds else Storage(kind, name)
        self.nodes.append(node)
        return node

    def RemoveNode(self, node):
        if node in self.nodes:
            self.nodes.remove(node)


class NativeNode(Node):
    """A run of the native module: the test sets `status` and calls `tell`."""

    Cancelled, ErrorsMask, Completed = 4, 64, 32

    def __init__(self, parameters):
        Node.__init__(self, "vtkMRMLCommandLineModuleNode", "run")
        self.parameters, self.busy, self.status, self.progress, self.error, self.output = parameters, True, 2, 0, "", ""

    def AddObserver(self, _event, work):
        self.watcher = work
        return 7

    def RemoveObserver(self, _tag):
        self.watcher = None

    def tell(self):
        self.watcher(self, "ModifiedEvent")

    def IsBusy(self):
        return self.busy

    def GetProgress(self):
        return self.progress

    def GetStatus(self):
        return self.status

    def GetErrorText(self):
        return self.error

    def GetOutputText(self):
        return self.output

    def Cancel(self):
        self.busy, self.status = False, self.Cancelled
        self.tell()


class Observation:
    def __init__(self):
        self.observations = {}

    def addObserver(self, node, event, work):
        self.observations.setdefault((node, event), []).append(work)

    def removeObserver(self, node, event, work):
        self.observations[(node, event)].remove(work)

    def removeObservers(self):
        self.observations = {}


def parameter_node(cls):
    """The decorator keeps defaults as plain attributes."""
    def init(self, node):
        self.node = node
    cls.__init__ = init
    return cls


def load_panel(path):
    names = [w.get("name") for w in ElementTree.parse(path).iter("widget")]
    panel = Widget("panel")
    panel.children = {name: Widget(name) for name in names}
    panel.setMRMLScene = lambda scene: None
    return panel


def install():
    """Puts the stand-ins in the place of Slicer's modules and gives `slicer`."""
    slicer = types.ModuleType("slicer")
    slicer.util = types.ModuleType("slicer.util")
    slicer.parameterNodeWrapper = types.ModuleType("slicer.parameterNodeWrapper")
    slicer.ScriptedLoadableModule = types.ModuleType("slicer.ScriptedLoadableModule")
    qt, vtk = types.ModuleType("qt"), types.ModuleType("vtk")

    class Base:
        def __init__(self, parent=None):
            self.parent = parent
            self.layout = types.SimpleNamespace(addWidget=lambda widget: None)

        def setup(self):
            pass

        def resourcePath(self, name):
            return os.path.join(MODULE, "Resources", name)

        def getParameterNode(self):
            return None

    for name in ("ScriptedLoadableModule", "ScriptedLoadableModuleWidget", "ScriptedLoadableModuleLogic", "ScriptedLoadableModuleTest"):
        setattr(slicer.ScriptedLoadableModule, name, type(name, (Base,), {}))
    slicer.parameterNodeWrapper.parameterNodeWrapper = parameter_node
    slicer.errors = []
    slicer.util.VTKObservationMixin = Observation
    slicer.util.errorDisplay = slicer.errors.append
    slicer.util.tempDirectory = lambda: tempfile.mkdtemp(prefix="volseg-test-")
    slicer.util.startupEnvironment = lambda: dict(os.environ)
    slicer.util.loadUI = load_panel
    slicer.util.childWidgetVariables = lambda panel: types.SimpleNamespace(**panel.children)

    def save_node(volume, path, _properties):
        if not volume.path:
            return False
        with open(volume.path, "rb") as source, open(path, "wb") as target:
            target.write(source.read())
        return True

    def array_of(target, identity, _volume):
        if identity not in target.arrays:
            raise RuntimeError("empty")
        return target.arrays[identity]

    def update(array, target, identity, _volume):
        target.arrays[identity] = array

    slicer.util.saveNode = save_node
    slicer.util.arrayFromSegmentBinaryLabelmap = array_of
    slicer.util.updateSegmentBinaryLabelmapFromArray = update
    slicer.mrmlScene = Scene()
    slicer.modules = types.SimpleNamespace()
    slicer.app = Signals()
    slicer.vtkMRMLMarkupsNode = Markups
    slicer.vtkMRMLTransformNode = types.SimpleNamespace(GetTransformBetweenNodes=lambda source, target, out: None)
    slicer.vtkMRMLSubjectHierarchyNode = types.SimpleNamespace(GetSubjectHierarchyNode=lambda scene: None)

    def run(_module, _node, parameters):
        slicer.lastRun = NativeNode(parameters)
        return slicer.lastRun

    slicer.cli = types.SimpleNamespace(run=run)
    qt.QProcess, qt.QProcessEnvironment, qt.QSettings, qt.QTimer = Process, Environment, Settings, Timer
    qt.QShortcut, qt.QKeySequence, qt.QListWidgetItem, qt.QPixmap = (lambda key, panel: Signals()), str, ListItem, Pixmap
    qt.QByteArray = bytes
    qt.Qt = types.SimpleNamespace(UserRole=32, ItemIsUserCheckable=16, Unchecked=0, Checked=2, KeepAspectRatio=1,
                                  SmoothTransformation=1)
    vtk.vtkCommand = types.SimpleNamespace(ModifiedEvent=33)
    vtk.vtkGeneralTransform, vtk.vtkMatrix4x4 = Transform, Matrix
    Settings.kept = {}
    for module in (slicer, slicer.util, slicer.parameterNodeWrapper, slicer.ScriptedLoadableModule, qt, vtk):
        sys.modules[module.__name__] = module
    return slicer
