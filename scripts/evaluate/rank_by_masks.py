#!/usr/bin/env python3
"""Plays the person of the tutorial "Your own pictures": ranks the four candidates of each picture by their overlap with a mask.

    pip install pillow
    scripts/evaluate/rank_by_masks.py --volseg target/release/volseg --images DIR --masks DIR --organ breast_tumor \
        --modality ultrasound --model run1/model.safetensors --out judgements.jsonl

What a viewer does with a person is the same but for the ranks: run `volseg segment --candidates`, show the masks, write a line.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import tempfile
from datetime import datetime, timezone

from PIL import Image


def runs(mask, width, height):
    """Plain run lengths, columns first, background first."""
    counts, inside, length = [], 0, 0
    for x in range(width):
        for y in range(height):
            value = 1 if mask[y * width + x] else 0
            if value != inside:
                counts.append(length)
                inside, length = value, 0
            length += 1
    counts.append(length)
    return " ".join(map(str, counts))


def main():
    p = argparse.ArgumentParser()
    for name in ["volseg", "images", "masks", "organ", "modality", "model", "out"]:
        p.add_argument("--" + name, required=True)
    a = p.parse_args()
    weights = hashlib.sha256(pathlib.Path(a.model).read_bytes()).hexdigest() if pathlib.Path(a.model).exists() else ""
    lines = []
    for image in sorted(pathlib.Path(a.images).iterdir()):
        truth = Image.open(pathlib.Path(a.masks) / image.name).convert("L")
        width, height = truth.size
        wanted = [v > 0 for v in truth.getdata()]
        with tempfile.TemporaryDirectory() as folder:
            command = [a.volseg, "segment", str(image), "-o", folder + "/mask.png", "--candidates", folder + "/c", "--quiet",
                       "--modality", a.modality, "--organs", a.organ, "--model", a.model]
            subprocess.run(command, check=True)
            masks = {}
            for t in ["0.3", "0.4", "0.5", "0.6"]:
                masks[t] = [v > 0 for v in Image.open(f"{folder}/c/candidate_{t}.png").getdata()]
        iou = []
        for m in masks.values():
            both = sum(x and y for x, y in zip(m, wanted))
            either = sum(x or y for x, y in zip(m, wanted))
            iou.append(both / either if either else 1.0)
        lines.append({
            "version": 1, "case": image.stem, "image_sha256": hashlib.sha256(image.read_bytes()).hexdigest(),
            "weights_sha256": weights, "plane": None, "slice": None, "organ": a.organ, "prompt": None, "tile": None,
            "candidates": [{"threshold": float(t), "rle": runs(m, width, height)} for t, m in masks.items()],
            "ranks": [1 + sum(o > v for o in iou) for v in iou], "skipped": max(iou) == min(iou), "rater": "by-mask",
            "time": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        })
    pathlib.Path(a.out).write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(f"{len(lines)} judgements, {sum(line['skipped'] for line in lines)} without a difference")


main()
