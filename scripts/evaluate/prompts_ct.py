#!/usr/bin/env python3
"""Boxes and presence of `volseg prompt` on CT phantoms never trained on, per organ in 3D, with and without joined slices.

    python3 scripts/evaluate/prompts_ct.py --volseg target/release/volseg --phantoms 900010 3 [further arguments of volseg prompt]

Per organ: `auc` of the probability of presence over slices, `f1` of "has a prompt" against "the organ is there" (without joining every slice
has one), `box` the mean IoU over the organ's slices (a missing prompt counts 0), `box3d` the IoU of the boxes around all prompts of the volume. Needs numpy, nibabel.
"""
import argparse, json, pathlib, subprocess, sys, tempfile
import nibabel, numpy

from organs import NAMES

p = argparse.ArgumentParser()
p.add_argument("--volseg", default="target/release/volseg")
p.add_argument("--phantoms", nargs=2, type=int, metavar=("SEED", "N"), default=[900010, 3])
a, rest = p.parse_known_args()


def iou(a, b):
    a, b = numpy.array(a, float).reshape(2, -1), numpy.array(b, float).reshape(2, -1)
    both = numpy.prod(numpy.clip(numpy.minimum(a[1], b[1]) - numpy.maximum(a[0], b[0]), 0, None))
    return both / (numpy.prod(a[1] - a[0]) + numpy.prod(b[1] - b[0]) - both)


def auc(score, truth):
    order = numpy.argsort(score, kind="stable")
    rank = numpy.empty(len(score)); rank[order] = numpy.arange(1, len(score) + 1)
    for v in numpy.unique(score):
        rank[score == v] = rank[score == v].mean()
    n = truth.sum()
    return (rank[truth].sum() - n * (n + 1) / 2) / (n * (len(truth) - n)) if 0 < n < len(truth) else None


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}: {done.stderr}")


rows = {}
with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    for seed in range(a.phantoms[0], a.phantoms[0] + a.phantoms[1]):
        run(a.volseg, "phantom", "--modality", "ct", "--seed", str(seed), "-o", str(tmp / str(seed)), "--quiet")
        truth = numpy.asarray(nibabel.load(tmp / str(seed) / "labels.nii.gz").dataobj).astype(int)
        for mode in ("joined", "alone"):
            out = tmp / "p.json"
            run(a.volseg, "prompt", str(tmp / str(seed) / "image.nii.gz"), "-o", str(out), "--cache", str(tmp / "cache"), "--quiet", *rest,
                *(["--no-join"] if mode == "alone" else []))
            file = json.loads(out.read_text())
            presence = list(file["presence"].values())
            for organ in range(1, 16):
                there = (truth == organ).any(axis=(0, 1))
                if not there.any():
                    continue
                boxes = {q["slice"]: q["box"] for q in file["prompts"] if q["organ"] == NAMES[organ]}
                found = numpy.isin(numpy.arange(len(there)), list(boxes))
                each, whole = [], []
                for s in numpy.flatnonzero(there):
                    x, y = numpy.nonzero(truth[:, :, s] == organ)
                    box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
                    whole.append([*box[:2], s, *box[2:], s + 1])
                    each.append(iou(box, boxes[s]) if s in boxes else 0.0)
                around = lambda b: numpy.concatenate([numpy.array(b)[:, :3].min(0), numpy.array(b)[:, 3:].max(0)])
                ours = [[*b[:2], s, *b[2:], s + 1] for s, b in boxes.items()]
                rows.setdefault((NAMES[organ], mode), []).append([
                    auc(numpy.array(presence[organ - 1]), there), 2 * (there & found).sum() / (there.sum() + found.sum()),
                    numpy.mean(each), iou(around(whole), around(ours)) if ours else 0.0])
mean = lambda v: numpy.nanmean(numpy.array(v, float), axis=0)
print(f"| organ | presence AUC | F1 joined | F1 alone | box joined | box alone | 3D box joined | 3D box alone |\n|{'---|' * 8}")
table = []
for organ in NAMES[1:]:
    if (organ, "joined") in rows:
        j, n = mean(rows[organ, "joined"]), mean(rows[organ, "alone"])
        table.append([j[0], j[1], n[1], j[2], n[2], j[3], n[3]])
        print(f"| {organ} | " + " | ".join(f"{v:.2f}" for v in table[-1]) + " |")
print("| mean | " + " | ".join(f"{v:.2f}" for v in mean(table)) + " |")
