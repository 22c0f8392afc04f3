#!/usr/bin/env python3
"""Makes the small fixture of volseg-model's tests with our torch implementation: make_fixture.py FOLDER

Needs torch and safetensors (PyPI). The numbers depend on the torch version in the last digits only.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import fixture
import sam_torch as st

CONFIG = dict(
    image_size=48, patch_size=8, encoder_embed_dim=16, encoder_depth=3, encoder_num_heads=2, encoder_mlp_ratio=2,
    window_size=4, global_attn_indexes=[1], encoder_adapter=True, prompt_embed_dim=16, mask_in_chans=8, decoder_depth=2,
    decoder_num_heads=2, decoder_mlp_dim=24, iou_head_depth=3, iou_head_hidden_dim=24, num_multimask_outputs=3)


def picture(g, h, w):
    """Smooth colour blobs with noise."""
    y, x = torch.meshgrid(torch.linspace(0, 1, h), torch.linspace(0, 1, w), indexing="ij")
    out = torch.zeros(h, w, 3)
    for _ in range(5):
        cy, cx, r, *colour = torch.rand(6, generator=g).tolist()
        out += torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (0.02 + 0.1 * r))[..., None] * torch.tensor(colour) * 200
    out += 25 * torch.randn(h, w, 3, generator=g)
    return out.clamp(0, 255).to(torch.uint8)


def disc(h, w, cy, cx, r):
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return (y - cy) ** 2 + (x - cx) ** 2 < r * r


def save(folder, name, tensors):
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, folder / f"{name}.safetensors")


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    g = torch.Generator().manual_seed(2024)
    model = st.Sam(CONFIG)
    st.randomise(model, 7)
    model.eval()
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    save(folder, "model", model.state_dict())

    f = lambda *v: torch.tensor([*v], dtype=torch.float32)
    labels = lambda *v: torch.tensor([[*v]], dtype=torch.int32)
    inputs = {
        "image_u8": picture(g, 48, 48), "image2_u8": picture(g, 48, 48),
        "point1.in_coords": f([[20, 30]]), "point1.in_labels": labels(1),
        "points_neg.in_coords": f([[12, 40], [40.25, 7.5]]), "points_neg.in_labels": labels(1, 0),
        "points_pad.in_coords": f([[12, 40], [3, 3], [33, 46]]), "points_pad.in_labels": labels(1, -1, 0),
        "box.in_boxes": f([10, 12, 30, 42]), "box_points.in_boxes": f([10, 12, 30, 42]),
        "box_points.in_coords": f([[12, 40], [40.25, 7.5]]), "box_points.in_labels": labels(1, 0),
        "point_mask.in_coords": f([[12, 40], [40.25, 7.5]]), "point_mask.in_labels": labels(1, 0),
        "boxes3.in_boxes": f([10, 12, 30, 42], [0, 0, 48, 48], [30.5, 2.25, 45, 20]),
        "batch2.in_boxes": f([10, 12, 30, 42], [5, 20, 44, 40]),
    }
    with torch.no_grad():
        out = fixture.expected(model, inputs)
        save(folder, "expected", {**out, **inputs})
        gaps = [v[:, 1:].sort(1).values.diff(dim=1)[:, -1].min() for k, v in out.items() if k.endswith("iou_all")]
        assert min(gaps) > 1e-3, f"masks too close to choose: {min(gaps)}; take another seed"

        inputs = {
            "image_u8": picture(g, 56, 75), "box.in_box": torch.tensor([20, 10, 60, 45]),
            "points.in_point_coords": torch.tensor([[40, 20], [60, 50]]), "points.in_point_labels": torch.tensor([1, 0]),
            "resize_151x149.image_u8_channel0": picture(g, 151, 149)[..., 0].contiguous(),
        }
        for h, w in ((20, 20), (48, 48), (49, 47), (31, 100)):
            inputs[f"resize_{h}x{w}.image_u8"] = picture(g, h, w)
        for h, w in ((37, 30), (37, 74)):
            mask = disc(h, w, 16, w // 2, 9) | disc(h, w, 33, 5, 3)
            name = f"loader_{h}x{w}"
            inputs |= {f"{name}.image_rgb_u8": picture(g, h, w), f"{name}.mask_u8": mask.to(torch.uint8) * 255,
                       f"{name}.post_low_res": torch.randn(1, 1, 24, 24, generator=g)}
        save(folder, "preprocess", {**fixture.preprocess(model, inputs), **inputs})

    target = torch.stack([disc(24, 24, 12, 10, 7), disc(24, 24, 5, 18, 4), disc(24, 24, 0, 0, 0)])[:, None].float()
    inputs = {"pred_logits": 2 * torch.randn(3, 1, 24, 24, generator=g) + 3 * target - 1, "target": target,
              "pred_iou": torch.rand(3, 1, generator=g)}
    save(folder, "loss", {**fixture.losses(inputs), **inputs})

    images = torch.cat([st.predictor_input(picture(g, 48, 48), 48) for _ in range(2)])
    inputs = {"images_norm": images, "boxes": f([10, 12, 30, 42], [5, 20, 44, 40]),
              "labels": torch.stack([disc(48, 48, 33, 25, 14), disc(48, 48, 30, 22, 11)])[:, None].float()}
    out, grads = fixture.train_step(model, inputs)
    kept = {f"grad/{k}": v for k, v in grads.items() if v.numel() <= 1500 and v.abs().max() > 1e-6}
    save(folder, "train_step", {**out, **inputs, **kept})
    norms = {k: float(v.norm()) for k, v in sorted(grads.items())}
    (folder / "train_grad_norms.json").write_text(json.dumps(norms, indent=1) + "\n")

    source = {"image_encoder.pos_embed": torch.randn(1, 16, 16, 6, generator=g),
              "image_encoder.blocks.0.attn.rel_pos_h": torch.randn(5, 8, generator=g),
              "image_encoder.blocks.2.attn.rel_pos_h": torch.randn(31, 8, generator=g),
              "image_encoder.blocks.2.attn.rel_pos_w": torch.randn(31, 8, generator=g)}
    shapes = {k: (1, 4, 4, 6) if "pos_embed" in k else (7, 8) if ".2." in k else v.shape for k, v in source.items()}
    result = fixture.from_sam(source, shapes)
    save(folder, "load_from_sam", {f"{p}/{k}": v for p, d in (("source", source), ("result", result)) for k, v in d.items()})

    # As the published training script saves it: the optimizer object itself lies beside the state dict.
    tokens = [model.mask_decoder.iou_token.weight, model.mask_decoder.mask_tokens.weight]
    optimizer = torch.optim.Adam(tokens, lr=1e-4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer.step()
    torch.save({"model": before, "optimizer": optimizer}, folder / "model.pth")


main()
