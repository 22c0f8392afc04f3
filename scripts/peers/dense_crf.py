#!/usr/bin/env python3
"""volseg's dense CRF and PyPI's pydensecrf2 on the same slice, in turn: dense_crf.py BINARY [ROUNDS]

BINARY is target/release/examples/dense_crf (cargo build --release -p volseg-prompt --example dense_crf). A 256 x 256 slice with noise,
2 labels, 5 updates, parameters of MedCLIP-SAM v1. Rounds alternate; the least time counts, as other jobs only add.
Needs numpy, safetensors, pydensecrf2.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydensecrf.densecrf as dcrf
from safetensors.numpy import save_file

SIDE = 256


def slice_and_energies(random):
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE), 20.0)
    for cy, cx, ry, rx, value in ((128, 128, 100, 118, 110), (110, 85, 50, 45, 150), (120, 190, 25, 20, 170), (180, 128, 18, 18, 230)):
        image[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1] = value
    image = (image + random.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)
    a = np.exp(-(((y - 112) / 40) ** 2 + ((x - 90) / 40) ** 2)).clip(0.01, 0.99)
    sigmoid = lambda t: 1 / (1 + np.exp(-t))
    energy = lambda p: -np.log(p + 1e-8) / (1.05 * sigmoid(p))
    return np.repeat(image[..., None], 3, 2), np.stack([energy(1 - a), energy(a)]).astype(np.float32)


def reference(image, unary):
    start = time.perf_counter()
    crf = dcrf.DenseCRF2D(SIDE, SIDE, 2)
    crf.setUnaryEnergy(unary.reshape(2, -1))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=60, srgb=5, rgbim=image, compat=5)
    built = time.perf_counter()
    crf.inference(5)
    return 1e3 * (built - start), 1e3 * (time.perf_counter() - built)


def main():
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    image, unary = slice_and_energies(np.random.default_rng(1))
    unary = np.ascontiguousarray(unary)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "slice.safetensors"
        save_file({"image": image, "unary": unary}, file)
        for _ in range(rounds):
            found.setdefault("pydensecrf2", []).append(reference(image, unary))
            for threads in (1, 2):
                run = subprocess.run([sys.argv[1], "time", file, "3", str(threads)], capture_output=True, text=True, check=True)
                times = json.loads(run.stdout)
                found.setdefault(f"volseg, {threads} thread{'s' * (threads > 1)}", []).append((times["build_ms"], times["infer_ms"]))
    print(f"{SIDE} x {SIDE}, 2 labels, 5 updates, {rounds} rounds, load average {os.getloadavg()[0]:.1f}\n")
    print("| | build, ms | 5 updates, ms | together, ms |\n|---|---|---|---|")
    for who, times in found.items():
        build, infer = (min(t[n] for t in times) for n in (0, 1))
        print(f"| {who} | {build:.1f} | {infer:.1f} | {build + infer:.1f} |")


main()
