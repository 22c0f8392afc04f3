"""The module itself with stand-ins for Slicer: files, panel, runs, cancel, clicks, a ranking session.

Set VOLSEG to the built program to run the tests that need it too.
"""

import ast
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree as ElementTree

import stand_ins

slicer = stand_ins.install()
sys.path.insert(0, stand_ins.MODULE)
try:
    import numpy
except ImportError:  # Slicer brings numpy; a plain Python may not.
    numpy = None
    sys.modules["numpy"] = None
import types  # noqa: E402

if numpy is None:
    sys.modules["VolsegSlicer.clicks"] = types.SimpleNamespace(Clicks=object, pointsVoxels=None)
import Volseg  # noqa: E402

VOLSEG = os.environ.get("VOLSEG", "")
FAKE = """#!/bin/sh
if [ "$1" = --version ]; then echo 'volseg 1.2.3'; exit 0; fi
if [ "$1" = organs ]; then echo '{"organs": [{"name": "liver"}, {"name": "left_kidney"}]}'; exit 0; fi
if [ -n "$FAKE_FAILS" ]; then echo 'volseg: error: the volume has 4 dimensions' >&2; exit 1; fi
echo '<filter-progress>0.5</filter-progress>'
echo '<filter-comment>slice 1 of 2</filter-comment>'
echo 'Note: low contrast'
for last; do :; done
printf 'NRRD0004\\nSegment0_ID:=liver\\nSegment0_Name:=liver\\n\\n' > "$last"
"""


class Files(unittest.TestCase):
    def paths(self, pattern):
        return glob.glob(os.path.join(stand_ins.MODULE, pattern), recursive=True)

    def test_sources_keep_to_python_3_9_and_the_standard_library(self):
        allowed = {"slicer", "qt", "vtk", "numpy", "VolsegLib", "VolsegSlicer"} | set(getattr(sys, "stdlib_module_names", ()))
        sources = self.paths("*.py") + self.paths("VolsegLib/*.py") + self.paths("VolsegSlicer/*.py")
        self.assertGreater(len(sources), 8)
        for path in sources:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            self.assertFalse(text.startswith("#!"), path)
            tree = ast.parse(text, feature_version=(3, 9))
            if not hasattr(sys, "stdlib_module_names"):
                continue
            for node in ast.walk(tree):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module]
                for name in names:
                    self.assertIn(name.split(".")[0], allowed - {"cgi"}, path)
            if os.sep + "VolsegLib" in path:
                self.assertNotRegex(text, r"(?m)^\s*(import|from) (slicer|qt|vtk)\b", path)

    def test_the_four_classes_are_there(self):
        for name in ("Volseg", "VolsegWidget", "VolsegLogic", "VolsegTest"):
            self.assertTrue(hasattr(Volseg, name))
        parent = type("Parent", (), {})()
        Volseg.Volseg(parent)
        self.assertEqual((parent.title, parent.categories, parent.dependencies), ("Volseg", ["Segmentation"], []))

    def test_every_widget_that_is_used_is_in_the_panel(self):
        tree = ElementTree.parse(os.path.join(stand_ins.MODULE, "Resources", "UI", "Volseg.ui"))
        names = {w.get("name") for w in tree.iter("widget")}
        with open(os.path.join(stand_ins.MODULE, "Volseg.py"), encoding="utf-8") as file:
            used = set(re.findall(r"self\.ui\.(\w+)", file.read()))
        self.assertLessEqual(used, names)
        self.assertGreater(len(used), 20)
        connected = [c.find("receiver").text for c in tree.iter("connection")]
        nodes = [w.get("name") for w in tree.iter("widget") if w.get("class") == "qMRMLNodeComboBox"]
        self.assertEqual(sorted(connected), sorted(nodes))

    def test_the_catalogue_entry_has_known_keys_only(self):
        with open(os.path.join(stand_ins.MODULE, "..", "Volseg.json"), encoding="utf-8") as file:
            entry = json.load(file)
        self.assertLessEqual(set(entry), {"$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies",
                                          "build_subdirectory", "tier", "enabled"})
        self.assertTrue(entry["scm_url"] and entry["build_dependencies"] == [] and entry["build_subdirectory"] == ".")

    def test_cmake_names_every_source(self):
        with open(os.path.join(stand_ins.MODULE, "CMakeLists.txt"), encoding="utf-8") as file:
            text = file.read()
        for path in self.paths("VolsegLib/*.py") + self.paths("VolsegSlicer/*.py"):
            self.assertIn(os.path.relpath(path, stand_ins.MODULE).replace(os.sep, "/"), text)


class Positions(unittest.TestCase):
    def test_points_and_boxes_go_out_as_lps(self):
        volume = stand_ins.Volume("CT")
        points = stand_ins.Markups([[1, 2, 3], [9, 9, 9], [-4, 5, 6]], undefined=[1])
        self.assertEqual(Volseg.VolsegLogic.pointsLps(points, volume), [[-1, -2, 3], [4, -5, 6]])
        box = stand_ins.Roi([10, 20, 30], [2, 4, 6], [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
        self.assertEqual(Volseg.VolsegLogic.boxLps(box, volume), [-10, -20, 30, 2, 1, 3])


class Panel(unittest.TestCase):
    """A panel with a made-up volseg."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.fake = os.path.join(self.folder.name, "fake-volseg")
        with open(self.fake, "w", encoding="utf-8") as file:
            file.write(FAKE)
        os.chmod(self.fake, 0o755)
        self.file = os.path.join(self.folder.name, "v.nrrd")
        with open(self.file, "wb") as file:
            file.write(b"NRRD0004\n")
        stand_ins.Settings.kept = {"Volseg/executable": self.fake}
        slicer.errors.clear()
        slicer.modules = type("Modules", (), {})()
        slicer.mrmlScene.nodes.clear()
        os.environ.pop("FAKE_FAILS", None)
        self.panel = Volseg.VolsegWidget()
        self.panel.setup()
        self.ui = self.panel.ui
        self.ui.threshold.value = 0.5
        self.ui.rater.text = "r1"
        self.volume = stand_ins.Volume("CT", self.file)
        self.ui.inputVolume.node = self.volume

    def tearDown(self):
        self.panel.cleanup()
        self.folder.cleanup()

    def press(self, widget):
        widget.fire("clicked(bool)", False)

    def turn(self, until, seconds=120):
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            self.panel.worker.take()
            time.sleep(0.01)
        self.assertTrue(until(), slicer.errors)

    @unittest.skipIf(sys.platform == "win32", "the stand-in is a shell script")
    def test_a_run(self):
        self.assertEqual(self.ui.versionLabel.text, "volseg 1.2.3")
        self.assertEqual([i.text() for i in self.ui.organList.items], ["liver", "left kidney"])
        self.ui.organFilter.fire("textChanged(QString)", "KID")
        self.assertEqual([i.hidden for i in self.ui.organList.items], [True, False])
        self.ui.organList.items[1].setCheckState(2)
        self.ui.insidePoints.node = stand_ins.Markups([[1, 2, 3]])
        self.press(self.ui.runButton)
        self.assertEqual((slicer.errors, self.ui.runButton.text), ([], "Cancel"))
        run = self.panel.running
        folder = run.folder
        self.assertIn("left_kidney", run.process.process.args)
        self.assertIn("-1,-2,3", run.process.process.args)
        run.process.end()
        self.assertEqual((slicer.errors, self.ui.runButton.text, self.ui.progress.value), ([], "Run", 100))
        self.assertEqual(self.ui.log.lines, ["slice 1 of 2"])
        self.assertEqual(self.ui.flags.text, "Note: low contrast")
        result = self.ui.segmentation.node
        self.assertEqual((result.GetName(), result.reference), ("CT segmentation", self.volume))
        self.assertEqual(list(result.segmentation.segments), ["liver"])
        self.assertFalse(os.path.exists(folder))
        # A second run leaves the user's other segments as they are.
        result.segmentation.segments = {"lesion": "mine", "liver": "old"}
        self.press(self.ui.runButton)
        self.panel.running.process.end()
        self.assertEqual(result.segmentation.segments, {"lesion": "mine", "liver": "liver"})

    @unittest.skipIf(sys.platform == "win32", "the stand-in is a shell script")
    def test_runs_that_fail_say_one_sentence(self):
        os.environ["FAKE_FAILS"] = "1"
        self.press(self.ui.runButton)
        folder = self.panel.running.folder
        self.panel.running.process.end()
        self.assertEqual(slicer.errors, ["volseg: error: the volume has 4 dimensions"])
        self.assertEqual((self.ui.runButton.text, self.ui.progress.value, os.path.exists(folder)), ("Run", 0, False))
        # A volume that Slicer cannot write.
        self.volume.path = None
        self.press(self.ui.runButton)
        self.assertEqual((len(slicer.errors), self.panel.running), (2, None))
        self.volume.path = self.file
        # A file that is no program.
        os.remove(self.fake)
        with open(self.fake, "w", encoding="utf-8") as file:
            file.write("no program")
        os.chmod(self.fake, 0o755)
        self.press(self.ui.runButton)
        self.assertIn("could not be started", slicer.errors[-1])
        self.assertEqual((self.ui.runButton.text, self.panel.running), ("Run", None))
        self.ui.inputVolume.node = None
        self.press(self.ui.runButton)
        self.assertEqual(slicer.errors[-1], "Choose a volume first.")

    @unittest.skipIf(sys.platform == "win32", "the stand-in is a shell script")
    def test_cancel_says_nothing_and_leaves_nothing(self):
        self.press(self.ui.runButton)
        run = self.panel.running
        self.press(self.ui.runButton)
        run.process.end()
        self.assertEqual((slicer.errors, self.ui.runButton.text, os.path.exists(run.folder)), ([], "Run", False))

    def test_the_native_module_is_driven_where_it_is_loaded(self):
        slicer.modules.volsegsegment = object()
        self.press(self.ui.runButton)
        run = slicer.lastRun
        self.assertEqual(run.parameters["inputVolume"], self.volume.GetID())
        run.progress = 40
        run.tell()
        self.assertEqual(self.ui.progress.value, 40)
        self.panel.running.result.segmentation.segments = {"spleen": "spleen"}
        run.busy, run.status, run.output = False, run.Completed, "Note: thick slices\n"
        run.tell()
        self.assertEqual(list(self.ui.segmentation.node.segmentation.segments), ["spleen"])
        self.assertEqual(self.ui.flags.text, "Note: thick slices")
        self.press(self.ui.runButton)
        failed = slicer.lastRun
        failed.busy, failed.status, failed.error = False, failed.ErrorsMask, "the model is not installed"
        failed.tell()
        self.assertEqual(slicer.errors, ["the model is not installed"])
        self.press(self.ui.runButton)
        self.press(self.ui.runButton)
        self.assertEqual((slicer.errors[1:], self.ui.runButton.text), ([], "Run"))
        self.assertEqual([n.kind for n in slicer.mrmlScene.nodes], ["vtkMRMLSegmentationNode"])

    def test_without_volseg_the_panel_says_so(self):
        stand_ins.Settings.kept = {"Volseg/executable": "/no/such/file"}
        path, os.environ["PATH"] = os.environ["PATH"], ""
        home, os.environ["HOME"] = os.environ.get("HOME", ""), self.folder.name
        try:
            self.panel.enter()
        finally:
            os.environ["PATH"], os.environ["HOME"] = path, home
        if "not found" in self.ui.versionLabel.text:
            self.assertFalse(self.ui.runButton.enabled)
        self.ui.executablePath.fire("currentPathChanged(QString)", self.fake)
        self.assertEqual(self.ui.versionLabel.text, "volseg 1.2.3")
        self.assertTrue(self.ui.runButton.enabled)

    @unittest.skipUnless(numpy, "needs numpy")
    def test_clicks_change_one_slice_and_can_be_undone(self):
        class Server:
            asked = []

            def upload(self, path, modality):
                return {"image": "x", "plane": "axial", "axes": [0, 1, 2]}

            def mask(self, place, organ, points, threshold):
                Server.asked.append((place["slice"], organ, points))
                # A column of two pixels at x = 1: 6 rows, columns first.
                return {"size": [8, 6], "rle": "62", "slice": place["slice"], "pixels": 2, "ms": 3.0}

        self.panel.logic.client = Server
        self.ui.liveClicks.checked = True
        inside = stand_ins.Markups([[1, 0, 2]])
        self.ui.insidePoints.setCurrentNode(inside)
        self.assertEqual(self.panel.watched, [inside])
        self.panel.onPoint(inside, None)
        self.turn(lambda: self.ui.flags.text.startswith("2 pixels"))
        target = self.ui.segmentation.node
        voxels = target.arrays["object"]
        self.assertEqual((voxels.shape, numpy.argwhere(voxels).tolist()), ((4, 6, 8), [[2, 0, 1], [2, 1, 1]]))
        self.assertEqual(Server.asked, [(2, None, [[1, 0, 1]])])
        inside.points.append([2, 0, 3])
        self.ui.outsidePoints.setCurrentNode(stand_ins.Markups([[7, 5, 3], [7, 5, 0]]))
        self.panel.onPoint(inside, None)
        self.turn(lambda: target.arrays["object"][3].any())
        self.assertEqual(Server.asked[-1], (3, None, [[2, 0, 1], [7, 5, 0]]))
        self.assertTrue(target.arrays["object"][2].any())
        self.press(self.ui.undoClick)
        self.assertFalse(target.arrays["object"][3].any())
        self.press(self.ui.undoClick)
        self.assertFalse(target.arrays["object"].any())
        self.press(self.ui.undoClick)
        self.assertEqual(self.ui.flags.text, "There is no click to undo.")
        inside.points.append([99, 0, 0])
        self.panel.onPoint(inside, None)
        self.assertIn("outside", slicer.errors[-1])

    def test_a_ranking_session(self):
        saved, uploads = [], []

        class Server:
            def upload(self, path, modality):
                with open(path, "rb") as file:
                    uploads.append(file.read())
                return {"image": "x"}

            def next(self, image, modality):
                return {} if len(saved) == 3 else {"plane": "axial", "slice": len(saved), "organ": "left_kidney"}

            def candidates(self, place, organ):
                return {"version": 1, "slice": place["slice"], "organ": organ, "pictures": [{"png": "aGk="}] * 4,
                        "candidates": [{}] * 4, "size": [2, 2]}

            def save(self, judgement):
                saved.append(judgement)
                return 1

        self.panel.logic.client = Server
        self.press(self.ui.nextButton)
        self.turn(lambda: self.panel.ranking)
        self.assertEqual(self.ui.rankingText.text, "left kidney, slice 0: press 1 to 4, best first")
        self.assertEqual(self.ui.candidate3.pixmap.content, b"hi")
        self.assertIn("rgb(0, 200, 120)", self.ui.candidate3.style)
        keys = [s.slots["activated()"][0] for s in self.panel.shortcuts]
        keys[2]()
        keys[4]()
        for key in (1, 0, 2):
            keys[key]()
        self.turn(lambda: self.panel.ranking and len(saved) == 1)
        self.assertEqual(saved[0]["ranks"], [2, 1, 3, 4])
        # Undo on a fresh slice brings the last one back; its new line stands for the old one.
        keys[4]()
        self.assertEqual(self.panel.ranking.candidates["slice"], 0)
        for key in (3, 2, 1):
            keys[key]()
        self.turn(lambda: self.panel.ranking and len(saved) == 2)
        self.assertEqual((saved[1]["slice"], saved[1]["ranks"]), (0, [4, 3, 2, 1]))
        self.press(self.ui.skipButton)
        self.turn(lambda: len(saved) == 3 and "has been judged" in self.ui.rankingText.text)
        self.assertTrue(saved[2]["skipped"])
        self.assertEqual((uploads, slicer.errors), ([b"NRRD0004\n"], []))


@unittest.skipUnless(VOLSEG, "set VOLSEG to the built program")
class WithVolseg(Panel):
    """The panel, its own server and the real program."""

    def setUp(self):
        Panel.setUp(self)
        phantom = os.path.join(self.folder.name, "ct")
        subprocess.run([VOLSEG, "phantom", "--modality", "ct", "--size", "small", "--seed", "7", "--quiet", "-o", phantom], check=True)
        self.file = os.path.join(self.folder.name, "ct.nrrd")
        subprocess.run([VOLSEG, "convert", os.path.join(phantom, "image.nii.gz"), "-o", self.file, "--quiet"], check=True)
        self.volume.path = self.file
        os.environ["XDG_DATA_HOME"] = self.folder.name
        stand_ins.Settings.kept = {"Volseg/executable": VOLSEG}
        self.panel.enter()

    def test_the_real_program_segments(self):
        self.press(self.ui.runButton)
        self.panel.running.process.end()
        self.assertEqual(slicer.errors, [])
        self.assertGreater(len(self.ui.segmentation.node.segmentation.segments), 10)

    def test_ten_slices_are_ranked_with_the_real_server(self):
        self.press(self.ui.nextButton)
        for n in range(10):
            self.turn(lambda: self.panel.ranking)
            for key in (1, 2, 0):
                self.panel.onChoose(key)
            self.turn(lambda: self.panel.saved == n + 1)
        path = os.path.join(self.folder.name, "volseg", "serve", "preferences.jsonl")
        with open(path, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        self.assertEqual([line["ranks"] for line in lines], [[3, 1, 2, 4]] * 10)
        self.assertEqual(len({(line["slice"], line["organ"]) for line in lines}), 10)
        judged = os.listdir(os.path.join(self.folder.name, "volseg", "serve", "judged"))
        self.assertEqual(judged, [lines[0]["image_sha256"] + ".nrrd"])
        self.assertEqual(slicer.errors, [])


# The tests of the made-up program run once.
for name in [n for n in vars(Panel) if n.startswith("test_")]:
    setattr(WithVolseg, name, None)

if __name__ == "__main__":
    unittest.main()
