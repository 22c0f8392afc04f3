#!/usr/bin/env python3
"""Makes the fixture of volseg-prompt's dense CRF tests with PyPI's pydensecrf2: make_crf_fixture.py FOLDER

Needs numpy, safetensors, cython, pydensecrf2. Writes cases.json and one safetensors file a case, in the form that
`cargo run --release -p volseg-prompt --example dense_crf -- compare FOLDER` reads too.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pydensecrf.densecrf as dcrf
from safetensors.numpy import save_file

GAUSSIAN = dict(type="gaussian", sxy=3, compat=3)
CASES = [
    dict(name="grey", height=50, width=45, labels=2, terms=[GAUSSIAN, dict(type="bilateral", sxy=20, srgb=5, compat=5)], iterations=[5]),
    dict(name="colour", height=13, width=31, labels=2, terms=[dict(type="bilateral", sxy=60, srgb=13, compat=10)], iterations=[0, 1, 10]),
    dict(name="labels", height=19, width=22, labels=5, terms=[GAUSSIAN, dict(type="bilateral", sxy=5, srgb=3, compat=5)], iterations=[1, 5]),
]


def picture(random, height, width, grey):
    y, x = np.mgrid[:height, :width]
    out = np.full((height, width, 3), 40.0)
    for _ in range(4):
        cy, cx, r = random.random(3) * [height, width, 0.35 * min(height, width)]
        inside = (y - cy) ** 2 + (x - cx) ** 2 < r * r
        out[inside] = random.random(1 if grey else 3) * 255
    noise = random.normal(0, 4, (height, width, 1 if grey else 3))
    return (out + noise).clip(0, 255).astype(np.uint8)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)
    for case in CASES:
        h, w, labels = case["height"], case["width"], case["labels"]
        image = picture(random, h, w, case["name"] == "grey")
        tensors = {"image": image}
        if labels == 2:
            saliency = (image.mean(2) / 255 * 0.7 + 0.3 * random.random((h, w))).astype(np.float32)
            sigmoid = lambda t: 1 / (1 + np.exp(-t))
            energy = lambda p: -np.log(p + 1e-8) / (1.05 * sigmoid(p))
            unary = np.stack([energy(1 - saliency.astype(np.float64)), energy(saliency.astype(np.float64))]).astype(np.float32)
            tensors["saliency"] = saliency
        else:
            unary = random.gamma(2, 1, (labels, h, w)).astype(np.float32)
        tensors["unary"] = unary
        for n in case["iterations"]:
            crf = dcrf.DenseCRF2D(w, h, labels)
            crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1)))
            for t in case["terms"]:
                if t["type"] == "gaussian":
                    crf.addPairwiseGaussian(sxy=t["sxy"], compat=t["compat"])
                else:
                    crf.addPairwiseBilateral(sxy=t["sxy"], srgb=t["srgb"], rgbim=image, compat=t["compat"])
            tensors[f"pydensecrf.iter{n}"] = np.ascontiguousarray(np.array(crf.inference(n)).reshape(labels, h, w))
        case["file"] = f"{case['name']}.safetensors"
        save_file(tensors, folder / case["file"])
    (folder / "cases.json").write_text(json.dumps({"cases": CASES}, indent=1) + "\n")


main()
