#!/usr/bin/env python3
"""Dice of the embedded model on one part of a picture set (images/, masks/, index.csv), by `volseg segment` and a second,
independent count in this script (standard library and Pillow only).

    python3 scripts/evaluate/pictures.py --volseg target/release/volseg --data ../shared/data/busi \
        --organ breast_tumor --modality ultrasound --split run/split.json --part Test --mode organ

Modes: organ, box (one box per component from the mask), points (three per component), chain (boxes and points from image and
name alone). --jitter J moves every side of a box by up to J of its size. --scores writes the Dice of every picture. The split file is the one that
`volseg train prompt` wrote. Pictures whose mask is empty are counted apart: "nothing found" is right for them.
"""
import argparse, json, os, pathlib, random, statistics, subprocess, sys, tempfile
from PIL import Image

p = argparse.ArgumentParser()
p.add_argument("--volseg", default="target/release/volseg")
p.add_argument("--data", type=pathlib.Path, required=True)
p.add_argument("--organ", required=True)
p.add_argument("--modality", required=True)
p.add_argument("--split", type=pathlib.Path)
p.add_argument("--part", default="Test")
p.add_argument("--mode", default="organ", choices=["organ", "box", "points", "chain"])
p.add_argument("--jitter", type=float, default=0.0)
p.add_argument("--model", default="embedded")
p.add_argument("--limit", type=int)
p.add_argument("--scores", type=pathlib.Path)
p.add_argument("--threads", default="")
a = p.parse_args()

def boxes(truth, width, rng):
    """A box around every 8-connected component of at least 10 pixels, its sides moved."""
    left, found = {i for i, t in enumerate(truth) if t}, []
    for i in sorted(left):
        if i not in left:
            continue
        left.remove(i)
        part, todo = [], [i]
        while todo:
            n = todo.pop()
            part.append(n)
            near = [n + dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1) if 0 <= n % width + dx < width]
            near = [m for m in near if m in left]
            left.difference_update(near)
            todo += near
        if len(part) < 10:
            continue
        xs, ys = [n % width for n in part], [n // width for n in part]
        box = [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
        size, most = [box[2] - box[0], box[3] - box[1]], [width, len(truth) // width]
        moved = [b + rng.uniform(-a.jitter, a.jitter) * size[k % 2] for k, b in enumerate(box)]
        found.append([min(max(v, 0), most[k % 2]) for k, v in enumerate(moved)])
    return found


names = sorted(f.stem for f in (a.data / "images").glob("*.png"))
if a.split:
    parts = json.loads(a.split.read_text())[a.organ]
    names = [n for n in names if parts.get(n) == a.part]
names = names[: a.limit]
scores, empty_right, empty_all, worst = [], 0, 0, []
with tempfile.TemporaryDirectory() as tmp:
    for name in names:
        image, mask = a.data / "images" / f"{name}.png", a.data / "masks" / f"{name}.png"
        out = pathlib.Path(tmp) / f"{name}.png"
        command = [a.volseg, "segment", str(image), "-o", str(out), "--modality", a.modality, "--organs", a.organ,
                   "--model", a.model, "--quiet"]
        truth = [v > 0 for v in Image.open(mask).convert("L").tobytes()]
        ids = {"lungs": 16, "breast_tumor": 17}[a.organ]
        if a.threads:
            command += ["--threads", a.threads]
        if a.mode == "chain":
            command += ["--prompts", "chain"]
        elif a.mode == "box" and a.jitter and any(truth):
            moved = boxes(truth, Image.open(mask).width, random.Random(name))
            given = pathlib.Path(tmp) / "prompts.json"
            given.write_text(json.dumps({"version": 1, "prompts": [{"organ": a.organ, "box": b} for b in moved]}))
            command += ["--prompts", str(given)]
        elif a.mode != "organ" and any(truth):
            kind = "boxes-from" if a.mode == "box" else "points-from"
            extra = ",n=3" if a.mode == "points" else ""
            command += ["--prompts", f"{kind}:{mask},map=1:{a.organ}{extra}"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "XDG_CACHE_HOME": tmp})
        if done.returncode != 0:
            sys.exit(f"{name}: exit {done.returncode}: {done.stderr}")
        got = [v == ids for v in Image.open(out).tobytes()]
        if not any(truth):
            empty_all += 1
            empty_right += not any(got)
            continue
        both = sum(t and g for t, g in zip(truth, got))
        dice = 2 * both / (sum(truth) + sum(got))
        scores.append(dice)
        worst.append((dice, name))
if a.scores:
    a.scores.write_text(json.dumps({"dice": {n: d for d, n in worst}, "empty": empty_all, "nothing_found": empty_right}))
rng = random.Random(0)
means = sorted(statistics.mean(rng.choices(scores, k=len(scores))) for _ in range(2000))
print(json.dumps({
    "organ": a.organ, "mode": a.mode, "n": len(scores), "mean_dice": round(statistics.mean(scores), 4),
    "median_dice": round(statistics.median(scores), 4), "interval_95": [round(means[50], 4), round(means[1949], 4)],
    "below_half": sum(s < 0.5 for s in scores), "empty_pictures": empty_all, "nothing_found": empty_right,
    "worst": [[n, round(d, 3)] for d, n in sorted(worst)[:5]],
}, indent=1))
