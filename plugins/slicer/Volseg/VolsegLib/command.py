"""The volseg command: where it is, how it is called, what its progress tags say."""

import json
import os
import re
import shutil
import subprocess
import sys

NAME = "volseg.exe" if sys.platform == "win32" else "volseg"


def usual_places():
    """Folders in which installers put the command."""
    home = os.path.expanduser("~")
    places = [os.path.join(home, ".cargo", "bin"), os.path.join(home, ".local", "bin"), "/usr/local/bin", "/opt/homebrew/bin"]
    if sys.platform == "win32":
        places.insert(0, os.path.join(os.environ.get("LOCALAPPDATA", home), "Programs", "volseg"))
    return places


def find(setting="", beside=""):
    """Path of the command: the setting, beside the module, PATH, the usual folders; None if it is nowhere.

    The native module in the folder above `beside` is the same program.
    """
    candidates = [setting]
    if beside:
        parent = os.path.dirname(beside)
        module = "VolsegSegment.exe" if sys.platform == "win32" else "VolsegSegment"
        candidates += [os.path.join(beside, NAME), os.path.join(parent, NAME)]
        # Under that name it is the module; a run as `volseg` needs another name, so it is only a hint to its link's target.
        target = os.path.realpath(os.path.join(parent, module))
        candidates += [target] if os.path.basename(target) == NAME else []
    candidates.append(shutil.which("volseg") or "")
    candidates += [os.path.join(place, NAME) for place in usual_places()]
    for path in candidates:
        if path and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def version(executable):
    """First line of `volseg --version`; empty if it cannot be run."""
    try:
        done = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else ""


def organs(executable):
    """Names of the organs, in the order of their ids."""
    done = subprocess.run([executable, "organs", "--json"], capture_output=True, text=True, timeout=20, check=True)
    return [organ["name"] for organ in json.loads(done.stdout)["organs"]]


def segment_arguments(volume, output, options):
    """Arguments of `volseg slicer-cli`: the native module's command line, in the order in which Slicer writes it.

    `options` may hold model, modality, device, threads, threshold (texts or numbers), organs (list), foreground and
    background (lists of LPS points), boxes (lists of 6 or 15 numbers), keep_largest, returns (a file).
    """
    number = "{:.9g}".format
    joined = lambda values: ",".join(number(v) for v in values)  # noqa: E731
    arguments = ["slicer-cli"]
    if options.get("returns"):
        arguments += ["--returnparameterfile", options["returns"]]
    for name in ("model", "modality", "device", "threads", "threshold"):
        if options.get(name) not in (None, ""):
            arguments += ["--" + name, str(options[name])]
    if options.get("organs"):
        arguments += ["--organs", ",".join(options["organs"])]
    for name in ("foreground", "background"):
        for point in options.get(name, ()):
            arguments += ["--" + name, joined(point)]
    for box in options.get("boxes", ()):
        arguments += ["--box", joined(box)]
    if options.get("keep_largest"):
        arguments.append("--keep_largest")
    return arguments + [volume, output]


_TAG = re.compile(r"<filter-(progress|comment)>([^<]*)</filter-\1>")


class Progress:
    """Collects standard output and tells the last progress and comment in it."""

    def __init__(self):
        self.text = ""
        self.part = 0.0
        self.comment = ""

    def feed(self, text):
        """Takes the next piece of output; a tag may be cut by a piece's end."""
        self.text += text
        for name, value in _TAG.findall(self.text[-4096:]):
            if name == "comment":
                self.comment = value
            else:
                try:
                    self.part = max(self.part, float(value))
                except ValueError:
                    pass
        return self.part, self.comment
