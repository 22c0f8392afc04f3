#!/usr/bin/env python3
"""Calibration of a box's edges, the last step of the image-text stand-in: each edge of the box that `volseg prompt` makes is mapped by a line
of its own (least squares against the edges of the true boxes, in shares of the picture) on the training part of a picture set.
Writes the lines into the weights' metadata (`boxes`), by modality and organ. No tensor changes.

    python3 scripts/train_clip_boxes.py --volseg target/release/volseg --weights crates/volseg-model/weights/clip.safetensors \
        --data ../shared/data/cxr-lungs --organ lungs --modality xray --split run/split.json

Pictures with an empty mask or a prompt that fell back are left out. Needs numpy and Pillow.
"""
import argparse, json, pathlib, struct, subprocess, sys, tempfile
import numpy
from PIL import Image


def parts(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + size]), data[8 + size:]


def write(path, header, tensors):
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


p = argparse.ArgumentParser()
p.add_argument("--volseg", default="target/release/volseg")
p.add_argument("--weights", type=pathlib.Path, required=True)
p.add_argument("--data", type=pathlib.Path, required=True)
p.add_argument("--organ", required=True)
p.add_argument("--modality", required=True)
p.add_argument("--split", type=pathlib.Path, required=True)
a = p.parse_args()

header, tensors = parts(a.weights)
lines = json.loads(header["__metadata__"].get("boxes", "{}"))
ours, truth = [], []
with tempfile.TemporaryDirectory() as tmp:
    bare, out = pathlib.Path(tmp) / "bare.safetensors", pathlib.Path(tmp) / "p.json"
    write(bare, {**header, "__metadata__": {k: v for k, v in header["__metadata__"].items() if k != "boxes"}}, tensors)
    for name in sorted(n for n, part in json.loads(a.split.read_text())[a.organ].items() if part == "Train"):
        mask = numpy.asarray(Image.open(a.data / "masks" / f"{name}.png").convert("L")) > 0
        if not mask.any():
            continue
        done = subprocess.run([a.volseg, "prompt", a.data / "images" / f"{name}.png", "-o", out, "--organs", a.organ, "--modality", a.modality,
                               "--source", bare, "--no-cache", "--quiet"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")
        prompt = json.loads(out.read_text())["prompts"][0]
        if prompt["trace"]["fallback"] == "none":
            y, x = numpy.nonzero(mask)
            scale = numpy.array([mask.shape[1], mask.shape[0]] * 2)
            ours.append(prompt["box"] / scale)
            truth.append(numpy.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / scale)
ours, truth = numpy.array(ours), numpy.array(truth)
lines.setdefault(a.modality, {})[a.organ] = [[round(float(v), 4) for v in numpy.polyfit(ours[:, e], truth[:, e], 1)] for e in range(4)]
header["__metadata__"]["boxes"] = json.dumps(lines, sort_keys=True)
write(a.weights, header, tensors)
print(f"{len(ours)} pictures; slope and offset of x0, y0, x1, y1: {lines[a.modality][a.organ]}")
