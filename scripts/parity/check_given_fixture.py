#!/usr/bin/env python3
"""Checks our torch implementation against a fixture folder made elsewhere: check_given_fixture.py FOLDER"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

import fixture

folder = Path(sys.argv[1])
model = fixture.load_model(folder)
worst, checked = {}, 0


def compare(name, ours, theirs, tolerance=1e-4):
    global checked
    assert ours.shape == theirs.shape, f"{name}: {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
    if not theirs.is_floating_point():
        assert torch.equal(ours.to(theirs.dtype), theirs), name
        apart = 0.0
    else:
        apart = float((ours - theirs).detach().abs().max()) if theirs.numel() else 0.0
        assert apart <= tolerance, f"{name} is off by {apart}"
    checked += 1
    kind = name.split(":")[0]
    worst[kind] = max(worst.get(kind, 0.0), apart)


def inputs_of(theirs, ours):
    return {k: v for k, v in theirs.items() if k not in ours}


def main():
    for file, compute in (("expected", fixture.expected), ("preprocess", fixture.preprocess)):
        theirs = load_file(folder / f"{file}.safetensors")
        with torch.no_grad():
            ours = compute(model, dict(theirs))
        for name, t in theirs.items():
            if name in ours:
                compare(f"{file}: {name}", ours[name], t)
            else:
                assert ".in_" in name or "u8" in name or name.endswith("post_low_res"), f"{file}: {name} is not computed"
    theirs = load_file(folder / "loss.safetensors")
    for name, t in fixture.losses(theirs).items():
        compare(f"loss: {name}", t, theirs[name])
    theirs = load_file(folder / "train_step.safetensors")
    ours, grads = fixture.train_step(model, theirs)
    for name, t in ours.items():
        compare(f"train_step: {name}", t, theirs[name])
    for name, t in theirs.items():
        if name.startswith("grad/"):
            compare(f"gradient: {name}", grads[name[5:]], t, 1e-3 * float(t.abs().max()) + 1e-12)
    for name, norm in json.loads((folder / "train_grad_norms.json").read_text()).items():
        ours = float(grads[name].norm())
        assert abs(ours - norm) <= 1e-3 * norm + 1e-5, f"norm of {name}: {ours}, expected {norm}"
    theirs = load_file(folder / "load_from_sam.safetensors")
    pick = lambda p: {k[len(p):]: v for k, v in theirs.items() if k.startswith(p)}
    result = pick("result/")
    for name, t in fixture.from_sam(pick("source/"), {k: v.shape for k, v in result.items()}).items():
        compare(f"load_from_sam: {name}", t, result[name])
    print(f"{checked} tensors agree; largest difference by file:", {k: f"{v:.1e}" for k, v in worst.items()})


main()
