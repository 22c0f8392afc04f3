#!/usr/bin/env python3
"""Dice per organ in 3D of one named click that the server follows through a CT, as 3D Slicer asks for it.

    python3 scripts/evaluate/click3d.py --volseg target/release/volseg --phantoms 900010 3
    python3 scripts/evaluate/click3d.py --volseg target/release/volseg --pair ct.nii.gz labels.nii.gz --totalsegmentator

The click lies deepest inside the organ on the slice where it is largest; the third stored axis must be the axial one. Needs numpy and nibabel.
"""
import argparse, json, pathlib, shutil, statistics, subprocess, sys, tempfile, time, urllib.request
import nibabel, numpy

from organs import NAMES, from_totalsegmentator

p = argparse.ArgumentParser()
p.add_argument("--volseg", default="target/release/volseg")
p.add_argument("--phantoms", nargs=2, type=int, metavar=("SEED", "N"))
p.add_argument("--pair", nargs=2, action="append", default=[], metavar=("CT", "LABELS"))
p.add_argument("--totalsegmentator", action="store_true")
a = p.parse_args()


def deepest(mask):
    """A pixel that is left longest when the mask loses its edge again and again."""
    left = mask
    while left.any():
        mask, padded = left, numpy.pad(left, 1)
        left = left & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    where = numpy.argwhere(mask)
    return [int(v) for v in where[len(where) // 2]]


def infer(address, params):
    edge = "volseg-click"
    body = f'--{edge}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{json.dumps(params)}\r\n--{edge}--\r\n'
    request = urllib.request.Request(f"{address}/infer/embedded-click3d?image=case&output=image", data=body.encode(),
                                     headers={"Content-Type": f"multipart/form-data; boundary={edge}"})
    return urllib.request.urlopen(request).read()


def score(folder, image, truth):
    studies = folder / "studies"
    studies.mkdir(parents=True)
    shutil.copy(image, studies / "case.nii.gz")
    port = folder / "port"
    server = subprocess.Popen([a.volseg, "serve", "--monai-label", "--studies", studies, "--listen", "127.0.0.1:0", "--port-file", port],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not port.exists():
            if server.poll() is not None:
                sys.exit("the server ended")
            time.sleep(0.1)
        for organ in range(1, 16):
            there = truth == organ
            if not there.any():
                continue
            slice_ = int(there.sum(axis=(0, 1)).argmax())
            click = deepest(there[:, :, slice_]) + [slice_]
            out = folder / "mask.nii.gz"
            out.write_bytes(infer(f"http://127.0.0.1:{port.read_text().strip()}", {"label": NAMES[organ], "foreground": [click], "background": []}))
            got = numpy.asarray(nibabel.load(out).dataobj) > 0
            yield NAMES[organ], 2 * (there & got).sum() / (there.sum() + got.sum())
    finally:
        server.terminate()
        server.wait()


scores = {}
with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    pairs = list(a.pair)
    for n in range(a.phantoms[1] if a.phantoms else 0):
        made = tmp / f"phantom{n}"
        subprocess.run([a.volseg, "phantom", "--seed", str(a.phantoms[0] + n), "-o", made], check=True, capture_output=True)
        pairs.append((made / "image.nii.gz", made / "labels.nii.gz"))
    for n, (image, labels) in enumerate(pairs):
        truth = numpy.asarray(nibabel.load(labels).dataobj).astype(int)
        if a.totalsegmentator:
            truth = from_totalsegmentator(truth)
        for organ, dice in score(tmp / f"served{n}", image, truth):
            scores.setdefault(organ, []).append(dice)
means = {k: round(float(numpy.mean(v)), 3) for k, v in scores.items()}
print(json.dumps({"cases": len(pairs), "dice": means, "mean_over_organs": round(statistics.mean(means.values()), 4)}, indent=1))
