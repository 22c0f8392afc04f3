"""One segmentation: by the native module VolsegSegment, or by the command `volseg`."""

import os
import shutil

import qt
import slicer
import vtk
from VolsegLib import command, report


def saveVolume(volume, path):
    """Writes a volume as uncompressed NRRD, in its own frame."""
    if not slicer.util.saveNode(volume, path, {"useCompression": 0}):
        raise RuntimeError("the volume could not be written to the temporary folder")


class NativeRun:
    """A run of the native module VolsegSegment."""

    def __init__(self, logic, module, volume, target, options, progress, finished, failed):
        self.logic, self.target = logic, target
        self.progress, self.finished, self.failed = progress, finished, failed
        self.ended = False
        self.result = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "volseg result")
        self.node = slicer.cli.run(module, None, {
            "inputVolume": volume.GetID(),
            "outputSegmentation": self.result.GetID(),
            "organs": ",".join(options.get("organs", ())),
            "model": options.get("model", "auto"),
            "modality": options.get("modality", "auto"),
            "threshold": options.get("threshold", 0.5),
            "keepLargest": options.get("keep_largest", False),
        })
        self.tag = self.node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._changed)

    def _changed(self, node, _event):
        if node.IsBusy():
            self.progress(node.GetProgress() / 100.0, "")
            return
        node.RemoveObserver(self.tag)
        status = node.GetStatus()
        if status & node.Cancelled:
            self._end(lambda: self.failed("cancelled"))
        elif status & node.ErrorsMask:
            text = node.GetErrorText()
            self._end(lambda: self.failed(text))
        else:
            self.logic.mergeSegmentation(self.target, self.result)
            flags = report.flags(node.GetOutputText())
            self._end(lambda: self.finished(flags))

    def _end(self, tell):
        self.ended = True
        slicer.mrmlScene.RemoveNode(self.result)
        # The node is still in its own event here.
        node = self.node
        qt.QTimer.singleShot(0, lambda: slicer.mrmlScene.RemoveNode(node))
        tell()

    def cancel(self):
        self.node.Cancel()


class ProcessRun:
    """A run of the command `volseg`."""

    def __init__(self, logic, executable, volume, target, options, progress, finished, failed):
        self.logic, self.target = logic, target
        self.progress, self.finished, self.failed = progress, finished, failed
        self.folder = slicer.util.tempDirectory()
        given = os.path.join(self.folder, "volume.nrrd")
        self.result = os.path.join(self.folder, "result.seg.nrrd")
        self.told = command.Progress()
        self.cancelled = False
        self.ended = False
        try:
            saveVolume(volume, given)
        except RuntimeError:
            self._clear()
            raise
        self.process = qt.QProcess()
        environment = qt.QProcessEnvironment()
        for name, value in slicer.util.startupEnvironment().items():
            environment.insert(name, value)
        self.process.setProcessEnvironment(environment)
        self.process.connect("readyReadStandardOutput()", self._output)
        self.process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self.process.connect("errorOccurred(QProcess::ProcessError)", self._error)
        self.process.start(executable, command.segment_arguments(given, self.result, options))

    def _output(self):
        text = bytes(self.process.readAllStandardOutput().data()).decode("utf-8", "replace")
        self.progress(*self.told.feed(text))

    def _finished(self, code, _status):
        self.ended = True
        self._output()
        error = bytes(self.process.readAllStandardError().data()).decode("utf-8", "replace").strip()
        try:
            if self.cancelled:
                self.failed("cancelled")
            elif code != 0:
                self.failed(error or f"volseg ended with {code}")
            else:
                self.logic.loadResult(self.result, self.target)
                self.finished(report.flags(self.told.text))
        except RuntimeError as problem:
            self.failed(str(problem))
        finally:
            self._clear()

    def _error(self, _kind):
        # A process that ran and crashed also ends with `finished`; one that never started does not.
        if self.process.state() == qt.QProcess.NotRunning and not self.process.processId():
            self.ended = True
            self._clear()
            self.failed("volseg could not be started: " + self.process.errorString())

    def _clear(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def cancel(self):
        self.cancelled = True
        self.process.kill()
