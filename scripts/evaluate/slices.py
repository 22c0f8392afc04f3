#!/usr/bin/env python3
"""Dice of the embedded model on single CT slices as pictures (images/, labels/, labels.csv with `value,organ`): one box per
component from the labels, beside an ellipse drawn in the same boxes, or by name. Needs numpy and Pillow.

    python3 scripts/evaluate/slices.py --volseg target/release/volseg --data ../shared/data/abdomen-curvas
    python3 scripts/evaluate/slices.py --volseg target/release/volseg --data ../shared/data/abdomen-curvas --mode organ

The Dice is counted here, independently of `volseg eval`, and is the mean over the slices that show an organ. Components are 8-connected
and of 10 pixels or more.
"""
import argparse, collections, csv, json, pathlib, subprocess, sys, tempfile
import numpy
from PIL import Image

p = argparse.ArgumentParser()
p.add_argument("--volseg", default="target/release/volseg")
p.add_argument("--data", type=pathlib.Path, required=True)
p.add_argument("--model", default="embedded")
p.add_argument("--mode", default="box", choices=["box", "organ"])
a = p.parse_args()
names = {int(r["value"]): r["organ"] for r in csv.DictReader((a.data / "labels.csv").open()) if int(r["value"])}
organs = json.loads(subprocess.run([a.volseg, "organs", "--json"], capture_output=True, text=True, check=True).stdout)
ids = {o["name"]: o["id"] for o in organs["organs"]}
# The model knows left from right.
parts = {n: ["left_kidney", "right_kidney"] if n == "kidney" and a.mode == "organ" else [n] for n in names.values()}


def components(mask):
    """Pixel lists of the 8-connected components."""
    seen, found = numpy.zeros_like(mask), []
    for start in map(tuple, numpy.argwhere(mask)):
        if seen[start]:
            continue
        seen[start], queue, part = True, collections.deque([start]), []
        while queue:
            y, x = queue.popleft()
            part.append((y, x))
            for v in range(max(y - 1, 0), min(y + 2, mask.shape[0])):
                for u in range(max(x - 1, 0), min(x + 2, mask.shape[1])):
                    if mask[v, u] and not seen[v, u]:
                        seen[v, u] = True
                        queue.append((v, u))
        found.append(numpy.array(part))
    return found


def ellipses(mask):
    drawn = numpy.zeros_like(mask)
    y, x = numpy.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    for part in components(mask):
        if len(part) >= 10:
            low, high = part.min(axis=0), part.max(axis=0) + 1
            centre, half = (low + high) / 2, (high - low) / 2
            drawn |= ((y - centre[0]) / half[0]) ** 2 + ((x - centre[1]) / half[1]) ** 2 <= 1
    return drawn


scores = {n: ([], []) for n in names.values()}
free = {n: [] for n in names.values()}
with tempfile.TemporaryDirectory() as tmp:
    out = pathlib.Path(tmp) / "out.png"
    for image in sorted((a.data / "images").glob("*.png")):
        labels = a.data / "labels" / image.name
        table = ",".join(f"{v}:{n}" for v, n in names.items())
        asked = {"box": ["--prompts", f"boxes-from:{labels},map={table}"], "organ": ["--organs", ",".join(sum(parts.values(), []))]}
        done = subprocess.run([a.volseg, "segment", str(image), "-o", str(out), "--modality", "ct", "--quiet", "--model", a.model,
                               *asked[a.mode]], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{image.name}: exit {done.returncode}: {done.stderr}")
        truth, got = numpy.array(Image.open(labels)), numpy.array(Image.open(out))
        for value, name in names.items():
            t, found = truth == value, numpy.isin(got, [ids[part] for part in parts[name]])
            if any(len(c) >= 10 for c in components(t)):
                for masks, list_ in zip((found, ellipses(t)), scores[name]):
                    list_.append(2 * (masks & t).sum() / (masks.sum() + t.sum()))
            else:
                free[name].append(not found.any())
print(json.dumps({n: {"slices": len(s), a.mode: round(float(numpy.mean(s)), 3)} |
                  ({"ellipse_in_box": round(float(numpy.mean(e)), 3)} if a.mode == "box" else
                   {"slices_without": len(free[n]), "left_empty": sum(free[n])})
                  for n, (s, e) in scores.items() if s}, indent=1))
