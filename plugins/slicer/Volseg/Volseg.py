"""Organ masks with volseg in 3D Slicer: automatic, by points and boxes, and rankings of candidate masks.

The module drives the native module VolsegSegment where it is installed, else the command `volseg`. Rankings talk to a
`volseg serve` that the module starts on loopback and ends with Slicer. Standard library and Slicer's own parts only.
"""

import base64
import os
import shutil
import time

import qt
import slicer
import vtk
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from VolsegLib import command, coordinates
from VolsegLib.background import ServerProcess, Worker
from VolsegLib.ranking import COLOURS, Ranking
from VolsegSlicer.clicks import Clicks, pointsVoxels
from VolsegSlicer.runs import NativeRun, ProcessRun, saveVolume


class Volseg(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Volseg"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["The volseg developers"]
        parent.helpText = (
            "Finds organs in CT, X-ray and ultrasound without a network connection, and collects rankings of candidate "
            "masks. Research use only, not for diagnosis.")
        parent.acknowledgementText = "SAM-Med2D; 3D Slicer and its execution model."


@parameterNodeWrapper
class VolsegParameterNode:
    """What is kept with the scene."""

    organs: str = ""
    model: str = "auto"
    modality: str = "auto"
    threshold: float = 0.5
    keepLargest: bool = False
    rater: str = "r1"


class VolsegLogic(ScriptedLoadableModuleLogic):
    """Runs volseg; usable without the panel."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self.server = None
        self.uploaded = {}

    def getParameterNode(self):
        return VolsegParameterNode(super().getParameterNode())

    # The command

    def executable(self):
        """Path of volseg; None if it is not installed."""
        setting = qt.QSettings().value("Volseg/executable") or ""
        return command.find(str(setting), os.path.dirname(os.path.abspath(__file__)))

    @staticmethod
    def nativeModule():
        """The loaded native module, or None."""
        return getattr(slicer.modules, "volsegsegment", None)

    # Positions

    @staticmethod
    def pointsLps(markups, volume):
        """Defined points of a markups node in the volume's own frame, LPS mm."""
        points = []
        to_volume = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, volume.GetParentTransformNode(), to_volume)
        for n in range(markups.GetNumberOfControlPoints()):
            if markups.GetNthControlPointPositionStatus(n) != slicer.vtkMRMLMarkupsNode.PositionDefined:
                continue
            world = [0.0, 0.0, 0.0]
            markups.GetNthControlPointPositionWorld(n, world)
            points.append(coordinates.ras_to_lps(to_volume.TransformPoint(world)))
        return points

    @staticmethod
    def boxLps(roi, volume):
        """Centre and half sizes, LPS mm in the volume's frame, of the box that encloses an ROI's corners."""
        size = [0.0, 0.0, 0.0]
        roi.GetSize(size)
        to_world = roi.GetObjectToWorldMatrix()
        rows = [[to_world.GetElement(r, c) for c in range(4)] for r in range(4)]
        to_volume = vtk.vtkGeneralTransform()
        slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, volume.GetParentTransformNode(), to_volume)
        corners = [
            coordinates.ras_to_lps(to_volume.TransformPoint(coordinates.transform(rows, corner)))
            for corner in coordinates.roi_corners((0, 0, 0), size)
        ]
        low = [min(c[a] for c in corners) for a in range(3)]
        high = [max(c[a] for c in corners) for a in range(3)]
        return [(a + b) / 2 for a, b in zip(low, high)] + [(b - a) / 2 for a, b in zip(low, high)]

    # Results

    @staticmethod
    def newSegmentation(volume):
        """A segmentation for a volume, beside it in the study."""
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", volume.GetName() + " segmentation")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        if hierarchy:
            parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume))
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), parent)
        return node

    @staticmethod
    def mergeSegmentation(target, source):
        """Copies segments; those of the same id are replaced once the new one is there, others stay."""
        into, of = target.GetSegmentation(), source.GetSegmentation()
        for n in range(of.GetNumberOfSegments()):
            identity = of.GetNthSegmentID(n)
            if into.GetSegment(identity):
                into.RemoveSegment(identity)
            into.CopySegmentFromSegmentation(of, identity)

    def loadResult(self, path, target):
        """Reads a .seg.nrrd and merges it into a segmentation."""
        read = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "volseg result")
        storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
        try:
            storage.SetFileName(path)
            if not storage.ReadData(read):
                raise RuntimeError("the result of volseg could not be read")
            self.mergeSegmentation(target, read)
        finally:
            slicer.mrmlScene.RemoveNode(storage)
            slicer.mrmlScene.RemoveNode(read)

    # Runs

    def options(self, parameters, inside=None, outside=None, roi=None, volume=None):
        """Options of a run, for `command.segment_arguments`."""
        options = {
            "organs": [o for o in parameters.organs.split(",") if o],
            "model": parameters.model,
            "modality": parameters.modality,
            "threshold": parameters.threshold,
            "keep_largest": parameters.keepLargest,
        }
        if inside:
            options["foreground"] = self.pointsLps(inside, volume)
        if outside:
            options["background"] = self.pointsLps(outside, volume)
        if roi:
            options["boxes"] = [self.boxLps(roi, volume)]
        return options

    def run(self, volume, target, options, progress, finished, failed):
        """Starts a run and returns an object with `cancel()`. The three callbacks come in the window's thread:
        `progress(part, text)`, `finished(flags)`, `failed(sentence)`."""
        native = self.nativeModule()
        # Points and boxes are already in the volume's frame; the native module takes nodes, so only plain runs go to it.
        prompted = any(options.get(k) for k in ("foreground", "background", "boxes"))
        if native and not prompted:
            return NativeRun(self, native, volume, target, options, progress, finished, failed)
        executable = self.executable()
        if not executable:
            raise RuntimeError("volseg was not found: install it, or name its file in the panel")
        return ProcessRun(self, executable, volume, target, options, progress, finished, failed)

    # Server

    def client(self):
        """A client of our own server, started on first use. Called in the worker's thread."""
        if self.server is None:
            executable = self.executable()
            if not executable:
                raise RuntimeError("volseg was not found: install it, or name its file in the panel")
            environment = slicer.util.startupEnvironment()
            self.server = ServerProcess(executable, environment, extra=["--keep-judged"])
            self.address = self.server.client()
        return self.address

    def stopServer(self):
        if self.server is not None:
            self.server.stop()
            self.server = None
            self.uploaded = {}

    def sender(self, volume, modality):
        """A function for the worker's thread that gives the server's description of a volume, sent on first use and again
        when its voxels have changed. The file is written here, in the window's thread, since that reads MRML."""
        key = (volume.GetID(), modality)
        state = (volume.GetImageData().GetMTime(), volume.GetMTime())
        sent = self.uploaded.get(key)
        if sent and sent[0] == state:
            return lambda: sent[1]
        path = os.path.join(slicer.util.tempDirectory(), "volume.nrrd")
        try:
            saveVolume(volume, path)
        except RuntimeError:
            shutil.rmtree(os.path.dirname(path), ignore_errors=True)
            raise

        def send():
            try:
                image = self.client().upload(path, modality)
            finally:
                shutil.rmtree(os.path.dirname(path), ignore_errors=True)
            image["modality"] = modality
            self.uploaded[key] = (state, image)
            return image

        return send


class VolsegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.running = None
        self.ranking = None
        self.judged = None
        self.saved = 0
        self.clicks = Clicks()
        self.watched = []
        self.lastLine = ""

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/Volseg.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = VolsegLogic()
        self.worker = Worker()
        self.timer = qt.QTimer()
        self.timer.setInterval(50)
        self.timer.connect("timeout()", self.worker.take)
        self.timer.start()
        self.ui.runButton.connect("clicked(bool)", self.onRun)
        self.ui.executablePath.connect("currentPathChanged(QString)", self.onExecutable)
        self.ui.organFilter.connect("textChanged(QString)", self.onFilter)
        self.ui.nextButton.connect("clicked(bool)", self.onNext)
        self.ui.undoButton.connect("clicked(bool)", self.onUndo)
        self.ui.skipButton.connect("clicked(bool)", self.onSkip)
        self.ui.placeInside.connect("clicked(bool)", lambda _=False: self.place(self.ui.insidePoints))
        self.ui.placeOutside.connect("clicked(bool)", lambda _=False: self.place(self.ui.outsidePoints))
        self.ui.drawBox.connect("clicked(bool)", lambda _=False: self.place(self.ui.roi))
        self.ui.undoClick.connect("clicked(bool)", self.onUndoClick)
        for selector in (self.ui.insidePoints, self.ui.outsidePoints):
            selector.connect("currentNodeChanged(vtkMRMLNode*)", self.onPointsChosen)
        self.pictures = [self.ui.candidate1, self.ui.candidate2, self.ui.candidate3, self.ui.candidate4]
        self.shortcuts = []
        for n in range(4):
            self.addShortcut(str(n + 1), lambda n=n: self.onChoose(n), panel)
        self.addShortcut("Backspace", self.onUndo, panel)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneClosed)
        slicer.app.connect("aboutToQuit()", self.logic.stopServer)
        self.parameters = self.logic.getParameterNode()
        self.showInstallation()

    def addShortcut(self, key, work, panel):
        shortcut = qt.QShortcut(qt.QKeySequence(key), panel)
        shortcut.connect("activated()", work)
        self.shortcuts.append(shortcut)

    def enter(self):
        self.showInstallation()

    def exit(self):
        pass

    def cleanup(self):
        self.removeObservers()
        self.timer.stop()
        self.worker.stop()
        self.logic.stopServer()

    def onSceneClosed(self, _caller=None, _event=None):
        self.ranking = self.judged = None
        self.clicks = Clicks()
        self.logic.uploaded = {}
        self.parameters = self.logic.getParameterNode()

    # Installation

    def showInstallation(self):
        executable = self.logic.executable()
        version = command.version(executable) if executable else ""
        self.ui.versionLabel.text = version or "volseg was not found; name its file here"
        self.ui.runButton.enabled = bool(version) or self.logic.nativeModule() is not None
        if version and self.ui.organList.count == 0:
            for name in command.organs(executable):
                item = qt.QListWidgetItem(name.replace("_", " "))
                item.setData(qt.Qt.UserRole, name)
                item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
                item.setCheckState(qt.Qt.Unchecked)
                self.ui.organList.addItem(item)

    def onExecutable(self, path):
        qt.QSettings().setValue("Volseg/executable", path)
        self.showInstallation()

    def onFilter(self, text):
        for n in range(self.ui.organList.count):
            item = self.ui.organList.item(n)
            item.setHidden(text.lower() not in item.text().lower())

    def checkedOrgans(self):
        items = (self.ui.organList.item(n) for n in range(self.ui.organList.count))
        return [item.data(qt.Qt.UserRole) for item in items if item.checkState() == qt.Qt.Checked]

    # Runs

    def takeParameters(self):
        self.parameters.organs = ",".join(self.checkedOrgans())
        self.parameters.model = self.ui.modelChoice.currentText
        self.parameters.modality = self.ui.modalityChoice.currentText
        self.parameters.threshold = self.ui.threshold.value
        self.parameters.keepLargest = self.ui.keepLargest.checked
        self.parameters.rater = self.ui.rater.text

    def onRun(self, _checked=False):
        if self.running:
            self.running.cancel()
            return
        volume = self.ui.inputVolume.currentNode()
        if not volume:
            slicer.util.errorDisplay("Choose a volume first.")
            return
        self.takeParameters()
        target = self.ui.segmentation.currentNode() or self.logic.newSegmentation(volume)
        self.ui.segmentation.setCurrentNode(target)
        try:
            options = self.logic.options(self.parameters, self.ui.insidePoints.currentNode(),
                                         self.ui.outsidePoints.currentNode(), self.ui.roi.currentNode(), volume)
            self.ui.runButton.text = "Cancel"
            run = self.logic.run(volume, target, options, self.onProgress, self.onFinished, self.onFailed)
            # A program that cannot be started fails before this line.
            self.running = None if run.ended else run
        except RuntimeError as problem:
            self.onFailed(str(problem))

    def onProgress(self, part, text):
        self.ui.progress.value = int(100 * part)
        if text and text != self.lastLine:
            self.lastLine = text
            self.ui.log.appendPlainText(text)

    def onFinished(self, flags):
        self.running = None
        self.ui.runButton.text = "Run"
        self.ui.progress.value = 100
        self.ui.flags.text = "\n".join("Note: " + f for f in flags) or "No notes."

    def onFailed(self, text):
        self.running = None
        self.ui.runButton.text = "Run"
        self.ui.progress.value = 0
        if text != "cancelled":
            slicer.util.errorDisplay(text)

    # Points, boxes and clicks

    #: Class and name of the nodes that the buttons make.
    MADE = {"insidePoints": ("vtkMRMLMarkupsFiducialNode", "inside"), "outsidePoints": ("vtkMRMLMarkupsFiducialNode", "outside"),
            "roi": ("vtkMRMLMarkupsROINode", "box")}

    def place(self, selector):
        """Lets the user place points or a box, in a new node if none is chosen."""
        node = selector.currentNode()
        if not node:
            node = slicer.mrmlScene.AddNewNodeByClass(*self.MADE[selector.objectName])
            node.CreateDefaultDisplayNodes()
            selector.setCurrentNode(node)
        markups = slicer.modules.markups.logic()
        markups.SetActiveList(node)
        markups.StartPlaceMode(selector is not self.ui.roi)

    def onPointsChosen(self, node):
        for old in list(self.watched):
            if old not in (self.ui.insidePoints.currentNode(), self.ui.outsidePoints.currentNode()):
                self.removeObserver(old, slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self.onPoint)
                self.watched.remove(old)
        if node and node not in self.watched:
            self.addObserver(node, slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self.onPoint)
            self.watched.append(node)

    def onPoint(self, node, _event):
        """A point was placed: with clicks switched on, its slice is segmented at once."""
        volume = self.ui.inputVolume.currentNode()
        if not self.ui.liveClicks.checked or not volume:
            return
        self.takeParameters()
        organs = self.checkedOrgans()
        organ = organs[0] if len(organs) == 1 else None
        identity = organ or "object"
        try:
            lists = [pointsVoxels(n.currentNode(), volume) if n.currentNode() else []
                     for n in (self.ui.insidePoints, self.ui.outsidePoints)]
            last = pointsVoxels(node, volume)[-1]
            image = self.logic.sender(volume, self.parameters.modality)
        except (RuntimeError, ValueError) as problem:
            slicer.util.errorDisplay(str(problem))
            return
        target = self.ui.segmentation.currentNode() or self.logic.newSegmentation(volume)
        self.ui.segmentation.setCurrentNode(target)
        segments = target.GetSegmentation()
        if not segments.GetSegment(identity):
            segments.AddEmptySegment(identity, identity.replace("_", " "))
        threshold = self.parameters.threshold

        def work():
            client = self.logic.client()
            told = image()
            question = self.clicks.question(told, *lists, last)
            if question is None:
                return None
            number, place, points = question
            return number, client.mask(place, organ, points, threshold=threshold), told

        def then(result):
            if result and self.clicks.put(*result, volume, target, identity):
                self.ui.flags.text = f"{result[1]['pixels']} pixels in {result[1]['ms']:.0f} ms"

        self.worker.start(work, then, self.onServerFailed)

    def onUndoClick(self, _checked=False):
        if not self.clicks.undo():
            self.ui.flags.text = "There is no click to undo."

    # Rankings

    def onNext(self, _checked=False):
        volume = self.ui.inputVolume.currentNode()
        if not volume:
            slicer.util.errorDisplay("Choose a volume first.")
            return
        self.takeParameters()
        modality = self.parameters.modality
        try:
            image = self.logic.sender(volume, modality)
        except RuntimeError as problem:
            slicer.util.errorDisplay(str(problem))
            return
        self.ui.rankingText.text = "Looking for an uncertain slice ..."

        def work():
            client = self.logic.client()
            told = image()
            spot = client.next(told["image"], modality=modality)
            if not spot:
                return None
            place = {"image": told["image"], "plane": spot["plane"], "slice": spot["slice"], "modality": modality}
            return client.candidates(place, spot["organ"])

        def then(candidates):
            self.ranking = Ranking(candidates) if candidates else None
            self.showRanking()

        self.worker.start(work, then, self.onServerFailed)

    def showRanking(self):
        if self.ranking is None:
            self.ui.rankingText.text = "Everything that the model is unsure of has been judged."
            for label in self.pictures:
                label.clear()
            return
        told = self.ranking.candidates
        self.ui.rankingText.text = f"{told['organ'].replace('_', ' ')}, slice {told['slice']}: press 1 to 4, best first"
        for n, (label, picture) in enumerate(zip(self.pictures, told["pictures"])):
            pixmap = qt.QPixmap()
            pixmap.loadFromData(qt.QByteArray(base64.b64decode(picture["png"])))
            label.setPixmap(pixmap.scaled(220, 220, qt.Qt.KeepAspectRatio, qt.Qt.SmoothTransformation))
            red, green, blue = COLOURS[n]
            label.setStyleSheet(f"border: 3px solid rgb({red}, {green}, {blue})")
            label.toolTip = f"{n + 1} {self.ranking.place(n)}"
        places = [f"{n + 1}: {self.ranking.place(n)}" for n in range(4) if self.ranking.place(n)]
        self.ui.placesText.text = "   ".join(places)

    def onChoose(self, number):
        if self.ranking is None:
            return
        if self.ranking.choose(number):
            self.save(self.ranking.judgement(self.ui.rater.text))
        else:
            self.showRanking()

    def onUndo(self, _checked=False):
        if self.ranking is not None and self.ranking.order:
            self.ranking.undo()
            self.showRanking()
        elif self.judged is not None:
            # The slice before comes back; its new line replaces the old one in training.
            self.ranking, self.judged = Ranking(self.judged.candidates), None
            self.showRanking()

    def onSkip(self, _checked=False):
        if self.ranking is not None:
            self.save(self.ranking.judgement(self.ui.rater.text, skipped=True))

    def save(self, judgement):
        self.judged, self.ranking = self.ranking, None

        def then(count):
            self.saved += count
            self.ui.placesText.text = f"{self.saved} saved"
            self.onNext()

        self.worker.start(lambda: self.logic.client().save(judgement), then, self.onServerFailed)

    def onServerFailed(self, error):
        self.ui.rankingText.text = ""
        slicer.util.errorDisplay(str(error))


class VolsegTest(ScriptedLoadableModuleTest):
    """The self test of the module's panel: a made-up volume is segmented by name and by a box."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_run()

    def test_run(self):
        import numpy

        logic = VolsegLogic()
        if not logic.executable():
            self.delayDisplay("volseg is not installed; nothing to test")
            return
        voxels = numpy.full((20, 64, 64), -1000, dtype=numpy.int16)
        voxels[:, 8:56, 8:56] = 40
        voxels[6:14, 20:44, 12:36] = 110
        volume = slicer.util.addVolumeFromArray(voxels)
        volume.SetSpacing(5.0, 5.0, 5.0)
        target = logic.newSegmentation(volume)
        ended = []
        logic.run(volume, target, logic.options(logic.getParameterNode()), lambda *_: None, ended.append, ended.append)
        end = time.monotonic() + 120
        while not ended and time.monotonic() < end:
            slicer.app.processEvents()
        self.assertTrue(ended and isinstance(ended[0], list), ended)
        self.assertGreater(target.GetSegmentation().GetNumberOfSegments(), 0)
        self.delayDisplay("Test passed")
