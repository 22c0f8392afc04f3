#!/usr/bin/env python3
"""Adds the text token to a fixture of make_fixture.py: make_text_fixture.py FOLDER [SEED]

FOLDER/text.safetensors gets a random projection, features of unit length, and what our torch code answers for them alone, with a
box, and with points (masks, predicted IoUs, and the gradient of their squares' mean in the projection). Needs torch and safetensors.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import fixture
import sam_torch as st

folder, seed = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8
plain = fixture.load_model(folder)
model = st.Sam({**plain.config, "text": {"embed_dim": 24}}).eval()
model.load_state_dict(plain.state_dict(), strict=False)
g = torch.Generator().manual_seed(seed)
with torch.no_grad():
    for p in model.prompt_encoder.text_proj.parameters():
        p.copy_(0.2 * torch.randn(p.shape, generator=g))
inputs = load_file(folder / "expected.safetensors")
features = torch.nn.functional.normalize(torch.randn(1, 24, generator=g), dim=-1)
projection = model.prompt_encoder.text_proj
out = {"weight": projection.weight.detach(), "bias": projection.bias.detach(), "features": features}
image = inputs["image_embedding"]
cases = {"alone": {}, "box": {"boxes": inputs["box.in_boxes"]},
         "points": {"coords": inputs["points_neg.in_coords"], "labels": inputs["points_neg.in_labels"]}}
for name, prompts in cases.items():
    masks, iou, sparse, _ = model.decode(image, text=features, **prompts)
    projection.zero_grad()
    (masks**2).mean().backward()
    out |= {f"{name}.sparse": sparse.detach(), f"{name}.low_res_all": masks.detach(), f"{name}.iou_all": iou.detach(),
            f"{name}.gradient": projection.weight.grad.clone()}
save_file({k: v.contiguous() for k, v in out.items()}, folder / "text.safetensors")
