#!/usr/bin/env python3
"""Dice per organ in 3D of the embedded model on CTs: phantoms of seeds never trained on, or image/label pairs.

    python3 scripts/evaluate/ct.py --volseg target/release/volseg --phantoms 900000 10
    python3 scripts/evaluate/ct.py --volseg target/release/volseg --pair ct.nii.gz labels.nii.gz --totalsegmentator

`--mode organ` (default), `box` (one box per component and slice from the labels), `points` (three points for each) or `box3d` (one box per organ in 3D, the same on all
its slices). The Dice is counted here, independently
of `volseg eval` (nibabel and numpy); `--totalsegmentator` maps that tool's class ids to ours.
"""
import argparse, json, pathlib, statistics, subprocess, sys, tempfile
import nibabel, numpy

from organs import NAMES, from_totalsegmentator

p = argparse.ArgumentParser()
p.add_argument("--volseg", default="target/release/volseg")
p.add_argument("--phantoms", nargs=2, type=int, metavar=("SEED", "N"))
p.add_argument("--size", default="small")
p.add_argument("--pair", nargs=2, action="append", default=[], metavar=("CT", "LABELS"))
p.add_argument("--totalsegmentator", action="store_true")
p.add_argument("--mode", default="organ", choices=["organ", "box", "points", "box3d"])
p.add_argument("--model", default="embedded")
a = p.parse_args()


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}: {done.stderr}")


def boxes_3d(truth):
    """Prompts of one box per organ; the third stored axis of the labels must be the axial one."""
    found = []
    for organ in range(1, 16):
        where = numpy.argwhere(truth == organ)
        if len(where):
            (x0, y0, z0), (x1, y1, z1) = where.min(axis=0).tolist(), (where.max(axis=0) + 1).tolist()
            found += [{"organ": NAMES[organ], "plane": "axial", "slice": z, "box": [x0, y0, x1, y1]} for z in range(z0, z1)]
    return found


scores, empty = {}, [0, 0]
with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    pairs = [tuple(map(pathlib.Path, q)) for q in a.pair]
    if a.phantoms:
        for seed in range(a.phantoms[0], a.phantoms[0] + a.phantoms[1]):
            run(a.volseg, "phantom", "--modality", "ct", "--seed", str(seed), "--size", a.size, "-o", str(tmp / str(seed)))
            pairs.append((tmp / str(seed) / "image.nii.gz", tmp / str(seed) / "labels.nii.gz"))
    for n, (image, labels) in enumerate(pairs):
        file = nibabel.load(labels)
        truth = numpy.asarray(file.dataobj).astype(int)
        if a.totalsegmentator:
            truth = from_totalsegmentator(truth)
            labels = tmp / f"labels{n}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(truth.astype(numpy.uint8), file.affine), labels)
        out = tmp / f"out{n}.nii.gz"
        command = [a.volseg, "segment", str(image), "-o", str(out), "--modality", "ct", "--model", a.model, "--quiet"]
        if a.mode in ("box", "points"):
            command += ["--prompts", f"{'boxes' if a.mode == 'box' else 'points'}-from:{labels}"]
        if a.mode == "box3d":
            prompts = tmp / f"prompts{n}.json"
            prompts.write_text(json.dumps({"version": 1, "prompts": boxes_3d(truth)}))
            command += ["--prompts", str(prompts)]
        run(*command)
        got = nibabel.load(out)
        # The DICOM reader may order axes differently than the reference file.
        got = nibabel.orientations.apply_orientation(
            numpy.asarray(got.dataobj).astype(int),
            nibabel.orientations.ornt_transform(nibabel.io_orientation(got.affine), nibabel.io_orientation(file.affine)))
        for organ in range(1, 16):
            t, g = truth == organ, got == organ
            if t.any():
                scores.setdefault(NAMES[organ], []).append(2 * (t & g).sum() / (t.sum() + g.sum()))
                # Slices without the organ should stay empty.
                away = ~t.any(axis=(0, 1))
                empty[0] += int(away.sum())
                empty[1] += int((~g[:, :, away].any(axis=(0, 1))).sum())
means = {k: round(float(numpy.mean(v)), 3) for k, v in scores.items()}
print(json.dumps({"mode": a.mode, "cases": len(pairs), "dice": means, "mean_over_organs": round(statistics.mean(means.values()), 4),
                  "organ_free_slices": empty[0], "left_empty": empty[1]}, indent=1))
