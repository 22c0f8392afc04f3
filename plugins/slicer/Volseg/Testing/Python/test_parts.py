"""The parts that know nothing of Slicer: command lines, progress, positions, masks, rankings, the server's client."""

import json
import os
import stat
import sys
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))
from VolsegLib import command, coordinates, report  # noqa: E402
from VolsegLib.background import ServerProcess, Worker  # noqa: E402
from VolsegLib.client import Client, ServerError  # noqa: E402
from VolsegLib.ranking import Ranking, append_line  # noqa: E402


class Commands(unittest.TestCase):
    def test_the_line_is_the_one_that_slicer_writes(self):
        line = command.segment_arguments("/a b/in.nrrd", "/ö.seg.nrrd", {
            "returns": "/r", "model": "auto", "threshold": 0.5, "organs": ["liver", "spleen"], "foreground": [[-10.5, 2, 1e-7]],
            "background": [[1, 2, 3]], "boxes": [[-1, -2, 3, 4, 5, 6]], "keep_largest": True, "device": ""})
        self.assertEqual(line, [
            "slicer-cli", "--returnparameterfile", "/r", "--model", "auto", "--threshold", "0.5", "--organs", "liver,spleen",
            "--foreground", "-10.5,2,1e-07", "--background", "1,2,3", "--box", "-1,-2,3,4,5,6", "--keep_largest",
            "/a b/in.nrrd", "/ö.seg.nrrd"])

    def test_the_command_is_looked_for_in_order(self):
        with tempfile.TemporaryDirectory() as folder:
            def made(*parts):
                path = os.path.join(folder, *parts)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write("#!/bin/sh\necho volseg 9.9\n")
                os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
                return path

            setting, beside, on_path = made("s", "tool"), made("m", command.NAME), made("p", command.NAME)
            old = os.environ["PATH"]
            os.environ["PATH"] = os.path.dirname(on_path) + os.pathsep + old
            try:
                self.assertEqual(command.find(setting, os.path.dirname(beside)), setting)
                self.assertEqual(command.find("/no/such", os.path.dirname(beside)), beside)
                self.assertEqual(command.find("", folder), on_path)
            finally:
                os.environ["PATH"] = old
            self.assertEqual(command.version(setting), "volseg 9.9")
            self.assertEqual(command.version("/no/such"), "")

    def test_progress_is_read_from_pieces(self):
        progress = command.Progress()
        progress.feed("<filter-start>\n<filter-progress>0.2</filter-progress>\n<filter-comm")
        self.assertEqual(progress.feed("ent>slice 2 of 9</filter-comment>\nNote: low contrast\n"), (0.2, "slice 2 of 9"))
        self.assertEqual(progress.feed("<filter-progress>0.1</filter-progress>"), (0.2, "slice 2 of 9"))
        self.assertEqual(report.flags(progress.text + "Note: low contrast\nNote: b\n"), ["low contrast", "b"])
        self.assertEqual(report.returned("segmentCount=3\nsummary=a=b\n"), {"segmentCount": "3", "summary": "a=b"})


class Positions(unittest.TestCase):
    def test_boxes_and_points(self):
        self.assertEqual(coordinates.ras_to_lps([1, -2, 3]), [-1, 2, 3])
        corners = coordinates.roi_corners((0, 0, 0), (2, 4, 6))
        self.assertEqual((len(corners), min(corners), max(corners)), (8, [-1, -2, -3], [1, 2, 3]))
        self.assertEqual(coordinates.voxel_box([[-4.2, 1, 2.6], [3.4, 0, 9]], (3, 3, 10)), [(0, 2), (0, 1), (3, 9)])
        with self.assertRaises(ValueError):
            coordinates.voxel_box([[7, 7, 7], [8, 8, 8]], (3, 3, 3))
        self.assertEqual(coordinates.nearest_voxel([0.4, 1.6, 2], (3, 3, 3)), [0, 2, 2])
        with self.assertRaises(ValueError):
            coordinates.nearest_voxel([-0.6, 0, 0], (3, 3, 3))

    def test_masks(self):
        # Columns first: a column of 3 zeros, then 2 ones and a zero.
        self.assertEqual(coordinates.decode_run_length("321", 2, 3), [[0, 1], [0, 1], [0, 0]])
        self.assertEqual(coordinates.decode_run_length("06", 2, 3), [[1, 1]] * 3)
        # A long run takes two letters (100 zeros, 60 ones); what reaches past the end is cut.
        self.assertEqual(sum(map(sum, coordinates.decode_run_length("T3l1", 12, 12))), 44)


CANDIDATES = {"version": 1, "case": "k", "image_sha256": "a", "weights_sha256": "b", "plane": "axial", "slice": 3, "organ": "liver",
              "prompt": None, "tile": None, "candidates": [{"threshold": t, "rle": ""} for t in (0.3, 0.4, 0.5, 0.6)],
              "size": [2, 2], "pictures": ["secret"], "patient": "Jane Doe"}


class Rankings(unittest.TestCase):
    def test_three_keys_make_a_ranking(self):
        ranking = Ranking(CANDIDATES)
        self.assertFalse(ranking.choose(2) or ranking.choose(2) or ranking.choose(0))
        ranking.undo()
        self.assertEqual((ranking.place(2), ranking.place(0)), ("best", ""))
        self.assertFalse(ranking.choose(1))
        self.assertTrue(ranking.choose(3))
        record = ranking.judgement("r7")
        self.assertEqual((record["ranks"], record["rater"], record["skipped"]), ([4, 2, 1, 3], "r7", False))
        self.assertNotIn("Jane", json.dumps(record))
        self.assertNotIn("pictures", record)
        ranking.undo()
        self.assertEqual(ranking.order, [2, 1])
        with self.assertRaises(ValueError):
            ranking.judgement("r7")
        with self.assertRaises(ValueError):
            ranking.choose(4)
        self.assertIsNone(Ranking(CANDIDATES).judgement("r", skipped=True)["ranks"])

    def test_lines_are_appended(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "j.jsonl")
            for _ in range(2):
                append_line(path, Ranking(CANDIDATES).judgement("r", skipped=True), "2026-01-01T00:00:00Z")
            with open(path, encoding="utf-8") as file:
                lines = [json.loads(line) for line in file]
            self.assertEqual([line["time"] for line in lines], ["2026-01-01T00:00:00Z"] * 2)
            self.assertNotIn("size", lines[0])


class Answers(BaseHTTPRequestHandler):
    seen = []

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Answers.seen.append((self.command, self.path, dict(self.headers), body))
        status, text = 200, b'{"status": "ok", "image": "x", "saved": 1}'
        if "missing" in self.path or b"missing" in body:
            status, text = 404, b'{"detail": "there is no such image"}'
        elif b"broken" in body:
            status, text = 500, b"<html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST = answer

    def log_message(self, *_):
        pass


class Calls(unittest.TestCase):
    def setUp(self):
        self.server = HTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.client = Client(f"http://127.0.0.1:{self.server.server_address[1]}", token="secret-token")

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()

    def test_calls_carry_the_token_and_no_file_name(self):
        self.assertTrue(self.client.ready())
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "Doe^Jane.nii.gz")
            with open(path, "wb") as file:
                file.write(b"x" * 3_000_000)
            self.assertEqual(self.client.upload(path, "ct")["image"], "x")
        method, address, headers, body = Answers.seen[-1]
        self.assertEqual((method, address), ("PUT", "/volseg/images?modality=ct&plane=axial"))
        self.assertEqual(headers["Authorization"], "Bearer secret-token")
        self.assertEqual(int(headers["Content-Length"]), len(body))
        self.assertIn(b'filename="volume.nii.gz"', body)
        self.assertNotIn(b"Doe", body)
        self.client.mask({"image": "x", "slice": 1}, "liver", [(1, 2, 1)], [0, 0, 4, 4])
        self.assertEqual(json.loads(Answers.seen[-1][3]), {
            "image": "x", "slice": 1, "organ": "liver", "points": [[1, 2, 1]], "box": [0, 0, 4, 4], "threshold": 0.5})
        self.assertEqual(self.client.save({"version": 1}), 1)

    def test_refusals_are_sentences(self):
        for place, status, text in (("missing", 404, "there is no such image"), ("broken", 500, "the volseg server answered 500")):
            with self.assertRaises(ServerError) as seen:
                self.client.mask({"image": place})
            self.assertEqual((seen.exception.status, str(seen.exception)), (status, text))
        gone = Client("http://127.0.0.1:9")
        self.assertFalse(gone.ready())
        with self.assertRaises(ServerError) as seen:
            gone.next()
        self.assertEqual(seen.exception.status, 0)


class Background(unittest.TestCase):
    def test_results_come_in_the_owners_thread(self):
        worker, seen = Worker(), []
        worker.start(lambda: threading.current_thread().name, seen.append, seen.append)
        worker.start(lambda: 1 / 0, seen.append, lambda error: seen.append((type(error), threading.current_thread().name)))
        worker.stop()
        worker._thread.join(5)
        self.assertEqual(seen, [])
        self.assertEqual(worker.take(), 2)
        self.assertEqual(seen, ["volseg", (ZeroDivisionError, threading.current_thread().name)])

    @unittest.skipIf(sys.platform == "win32", "the stand-in is a shell script")
    def test_a_server_that_does_not_start_says_why(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "volseg")
            with open(path, "w", encoding="utf-8") as file:
                file.write("#!/bin/sh\necho 'volseg: error: no such model' >&2\nexit 1\n")
            os.chmod(path, 0o755)
            server = ServerProcess(path)
            with self.assertRaises(ServerError) as seen:
                server.client(10)
            self.assertIn("no such model", str(seen.exception))
            server.stop()


if __name__ == "__main__":
    unittest.main()
