#!/usr/bin/env python3
"""Best Dice per organ in 3D that a mask grid can reach, whatever network fills it: each slice of the true organ is averaged onto the grid,
enlarged again (bilinear) and cut at one half, as the embedded network's masks are.

    python3 scripts/evaluate/ceiling.py --pair ct.nii.gz labels.nii.gz [--totalsegmentator] [--volseg target/release/volseg --phantoms 900010 5 full]

Columns: grids over the whole field, and over the box of the body (the largest part above -300 HU; the network looks at that). Needs
numpy, nibabel, scipy.
"""
import argparse, pathlib, subprocess, tempfile
import nibabel, numpy
from scipy import ndimage

from organs import NAMES, from_totalsegmentator

p = argparse.ArgumentParser()
p.add_argument("--pair", nargs=2, action="append", default=[], metavar=("CT", "LABELS"))
p.add_argument("--totalsegmentator", action="store_true")
p.add_argument("--phantoms", nargs=3, metavar=("SEED", "N", "SIZE"))
p.add_argument("--volseg", default="target/release/volseg")
p.add_argument("--grids", default="64,128,192,256")
a = p.parse_args()
grids = [int(g) for g in a.grids.split(",")]


def average(n, m):
    """Matrix of area averages from n pixels to m."""
    edges = numpy.linspace(0, n, m + 1)
    overlap = numpy.minimum(edges[1:, None], numpy.arange(1, n + 1)) - numpy.maximum(edges[:-1, None], numpy.arange(n))
    return numpy.clip(overlap, 0, None) * m / n


def enlarge(m, n):
    """Matrix of bilinear interpolation from m pixels to n, pixel centres at halves."""
    at = numpy.clip((numpy.arange(n) + 0.5) * m / n - 0.5, 0, m - 1)
    low = numpy.minimum(at.astype(int), m - 1)
    out = numpy.zeros((n, m))
    out[numpy.arange(n), low] += 1 - (at - low)
    out[numpy.arange(n), numpy.minimum(low + 1, m - 1)] += at - low
    return out


def reached(mask, grid):
    """Dice of masks [x, y, slices] through a grid; slices thinner than the grid are only enlarged and shrunk."""
    x, y = (enlarge(grid, n) @ average(n, grid) for n in mask.shape[:2])
    back = numpy.einsum("ix,xys,jy->ijs", x, mask.astype(float), y, optimize=True) > 0.5
    return 2 * (back & mask).sum() / (back.sum() + mask.sum())


def body(ct):
    parts, n = ndimage.label(ct > -300)
    largest = 1 + numpy.argmax(ndimage.sum_labels(ct > -300, parts, range(1, n + 1)))
    return ndimage.find_objects((parts == largest).astype(int))[0][:2]


rows = {}
with tempfile.TemporaryDirectory() as tmp:
    pairs = list(a.pair)
    if a.phantoms:
        for seed in range(int(a.phantoms[0]), int(a.phantoms[0]) + int(a.phantoms[1])):
            out = pathlib.Path(tmp) / str(seed)
            subprocess.run([a.volseg, "phantom", "--modality", "ct", "--seed", str(seed), "--size", a.phantoms[2], "-o", out, "--quiet"], check=True)
            pairs.append((out / "image.nii.gz", out / "labels.nii.gz"))
    for image, labels in pairs:
        # Slices along the axis that runs from feet to head.
        both = [nibabel.as_closest_canonical(nibabel.load(f)) for f in (image, labels)]
        ct, truth = numpy.asarray(both[0].dataobj), numpy.asarray(both[1].dataobj).astype(int)
        if a.totalsegmentator:
            truth = from_totalsegmentator(truth)
        crop = body(ct)
        print(f"{pathlib.Path(image).name}: {ct.shape}, body {[s.stop - s.start for s in crop]}")
        for organ in range(1, 16):
            mask = truth == organ
            if mask.any():
                away = mask.sum() - mask[crop].sum()
                assert away == 0, f"{NAMES[organ]}: {away} voxels outside of the body"
                mask = mask[:, :, mask.any(axis=(0, 1))]
                rows.setdefault(NAMES[organ], []).append([reached(m, g) for m in (mask, mask[crop]) for g in grids])
print("| organ | " + " | ".join(f"{w} {g}" for w in ("field", "body") for g in grids) + " |")
print("|---|" + "---|" * (2 * len(grids)))
for name, values in rows.items():
    print(f"| {name.replace('_', ' ')} | " + " | ".join(f"{v:.2f}" for v in numpy.mean(values, axis=0)) + " |")
