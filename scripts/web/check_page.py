#!/usr/bin/env python3
"""The page of `volseg serve` in real headless Chromium: what a user does, and pictures of it.

    python3 -m venv venv && venv/bin/pip install playwright && venv/bin/playwright install chromium
    venv/bin/python scripts/web/check_page.py target/release/volseg [--chromium /usr/bin/chromium] [--pictures docs/pictures]

Phantoms are opened, clicked, boxed, searched by name and ranked; nothing but the server is talked to, no script fails.
Prints one line a check. `--page FOLDER` takes the page's files from a folder in place of those built in.
"""
import argparse
import atexit
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

checks = 0


def check(what, fine, seen=""):
    global checks
    if not fine:
        sys.exit(f"FAILED: {what}: {seen}")
    checks += 1
    print(f"ok: {what}", flush=True)


class Server:
    def __init__(self, volseg, folder, token=None):
        port = folder / f"port{time.time_ns()}"
        command = [volseg, "serve", "--listen", "127.0.0.1:0", "--port-file", port, "--data", folder / "data", "--temp", folder,
                   "--keep-judged", "--quiet"]
        environment = dict(os.environ, **({"VOLSEG_TOKEN": token} if token else {}))
        self.process = subprocess.Popen([str(c) for c in command], env=environment)
        atexit.register(self.stop)
        while not port.exists():
            time.sleep(0.02)
            if self.process.poll() is not None:
                sys.exit("the server did not start")
        self.address = f"http://127.0.0.1:{port.read_text().strip()}"

    def stop(self):
        self.process.terminate()
        self.process.wait()


def phantom(volseg, folder, modality):
    out = folder / modality
    subprocess.run([volseg, "phantom", "--modality", modality, "--size", "small", "--seed", "11", "-o", out, "--quiet"], check=True)
    return next(p for p in sorted(out.iterdir()) if p.name.startswith("image."))


def main(options, folder):
    volseg = options.volseg
    images = {m: phantom(volseg, folder, m) for m in ("ct", "ultrasound")}
    secret = folder / "Doe^Jane.nii.gz"
    secret.write_bytes(images["ct"].read_bytes())
    server = Server(volseg, folder)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        problems, elsewhere = [], []
        page.on("pageerror", lambda e: problems.append(str(e)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" and "status of 4" not in m.text else None)
        page.on("request", lambda r: None if r.url.startswith((server.address, "data:", "blob:")) else elsewhere.append(r.url))
        if options.page:
            def from_folder(route):
                name = route.request.url.split("?")[0].rsplit("/", 1)[1] or "index.html"
                route.fulfill(path=str(options.page / name))
            page.route("**/page/*", from_folder)
            page.route(server.address + "/", from_folder)

        def told(wanted, seconds=90):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                text = page.inner_text("#told")
                if wanted in text:
                    return text
                page.wait_for_timeout(30)
            sys.exit(f"FAILED: the page does not say {wanted!r}: {page.inner_text('#told')!r} {problems}")

        def until(holds, what):
            """The page's own policy forbids the evaluation of texts, so the page is asked from outside."""
            end = time.monotonic() + 90
            while not holds():
                if time.monotonic() > end:
                    sys.exit(f"FAILED: waited for {what}: {page.inner_text('#told')!r} {problems}")
                page.wait_for_timeout(30)

        def saved(count):
            until(lambda: page.inner_text("#count") == f"{count} saved", f"{count} saved")

        def fresh():
            until(lambda: page.locator(".candidate:not(.chosen)").count() == 4, "four candidates")

        def picture(name):
            if options.pictures:
                options.pictures.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=str(options.pictures / f"{name}.png"))

        def spot(u, v):
            """Place on the screen of a point of the slice, 0 to 1 each."""
            box = page.locator("#slice").bounding_box()
            return box["x"] + u * box["width"], box["y"] + v * box["height"]

        page.goto(server.address + "/")
        check("the page says what it takes", "drop it here" in page.inner_text("#hint"))
        picture("page-empty")
        page.set_input_files("#file", str(secret))
        text = told("ct,")
        check(f"a CT is opened ({text})", page.is_hidden("#hint"))
        check("organs are offered", page.locator("#organ option").count() == 15)
        page.locator("#number").fill("100")
        until(lambda: page.inner_text("#position").startswith("100 "), "slice 100")
        page.click("#find")
        text = told("pixels in")
        check(f"the liver is found by name ({text})", int(text.split()[0]) > 50)
        picture("page-by-name")

        page.click("#clear")
        page.mouse.click(*spot(0.35, 0.45))
        first = told("pixels in")
        check(f"a click gives a mask ({first})", True)
        page.click("text=point outside")
        page.mouse.click(*spot(0.8, 0.8))
        second = told("pixels in")
        check(f"a point outside changes the question ({second})", True)
        picture("page-click")
        page.keyboard.press("Backspace")
        third = told("pixels in")
        check(f"the last point is taken back ({third})", third.split()[0] == first.split()[0], (first, third))
        page.click("#clear")
        page.click("text=box")
        page.mouse.move(*spot(0.2, 0.3))
        page.mouse.down()
        page.mouse.move(*spot(0.5, 0.6), steps=5)
        page.mouse.up()
        check(f"a box gives a mask ({told('pixels in')})", True)
        at = page.inner_text("#position")
        page.locator("#slice").hover()
        page.mouse.wheel(0, 100)
        page.wait_for_timeout(500)
        check(f"the wheel turns pages ({at} -> {page.inner_text('#position')})", page.inner_text("#position") != at)
        page.select_option("#window", "-1350,150")
        page.select_option("#plane", "coronal")
        told("ct,")
        page.click("#find")
        told("pixels in")
        check("coronal slices are segmented", True)
        page.select_option("#plane", "axial")
        page.select_option("#window", "")
        told("ct,")

        page.set_input_files("#file", str(images["ultrasound"]))
        text = told("ultrasound,")
        check(f"an ultrasound is opened ({text})", page.locator("#organ option").count() == 1)
        page.click("#find")
        told("pixels in")
        picture("page-ultrasound")
        broken = folder / "broken.nrrd"
        broken.write_bytes(b"NRRD0004\ntype: short\n")
        page.set_input_files("#file", str(broken))
        page.wait_for_selector("#told.wrong")
        check(f"a broken file is refused in a sentence ({page.inner_text('#told')[:60]})", "/" not in page.inner_text("#told"))

        # Back to the CT, then ten rankings by the keyboard.
        page.set_input_files("#file", str(secret))
        told("ct,")
        page.click("#next")
        for n in range(10):
            fresh()
            if n == 4:
                page.keyboard.press("3")
                page.keyboard.press("1")
                picture("page-ranking")
                page.keyboard.press("Backspace")
                page.keyboard.press("Backspace")
                check("undo takes choices back", page.locator(".chosen").count() == 0)
            for key in "213":
                page.keyboard.press(key)
            saved(n + 1)
        fresh()
        page.wait_for_timeout(300)
        page.keyboard.press("Backspace")
        told("rank it again")
        for key in "432":
            page.keyboard.press(key)
        saved(11)
        lines = [json.loads(line) for line in (folder / "data/preferences.jsonl").read_text().splitlines()]
        places = [(line["slice"], line["organ"]) for line in lines]
        check("ten slices are ranked, one of them again", len(lines) == 11 and len(set(places)) == 10 and places[-1] == places[-2],
              places)
        check("ranks are those of the keys", all(line["ranks"] == [2, 1, 3, 4] for line in lines[:-1]) and
              lines[-1]["ranks"] == [4, 3, 2, 1], [line["ranks"] for line in lines])
        kept = [p.name for p in (folder / "data").rglob("*") if p.is_file()]
        check("no name of the upload is kept", not any("Doe" in name for name in kept) and
              "Doe" not in (folder / "data/preferences.jsonl").read_text() + (folder / "data/audit.jsonl").read_text(), kept)
        fresh()
        page.keyboard.press("s")
        saved(12)
        check("a slice is skipped", json.loads((folder / "data/preferences.jsonl").read_text().splitlines()[-1])["skipped"])
        fresh()
        page.close()
        server.stop()

        guarded = Server(volseg, folder, token="a-long-secret-token")
        server.address = guarded.address
        page = browser.new_page()
        page.on("dialog", lambda d: d.accept("a-long-secret-token"))
        page.goto(guarded.address + "/")
        page.set_input_files("#file", str(images["ct"]))
        page.locator("#told", has_text="ct,").wait_for(timeout=90000)
        check("with a token the page asks for it once and works", True)
        guarded.stop()
        check("no script failed", not problems, problems)
        check("nothing but the server was talked to", not elsewhere, elsewhere)
        browser.close()
    print(f"{checks} passed, 0 failed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volseg", type=Path)
    parser.add_argument("--chromium", help="a browser already installed")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the page")
    parser.add_argument("--page", type=Path, help="folder with the page's files")
    given = parser.parse_args()
    given.volseg = given.volseg.resolve()
    with tempfile.TemporaryDirectory() as place:
        main(given, Path(place))
