#!/usr/bin/env python3
"""A random ViT-B checkpoint in the official layout, and our torch code's probabilities for a picture of it.

full_size.py FOLDER [SEED]: writes model.pth (1.09 GB: {"model": state dict, "optimizer": an Adam object}),
expected.safetensors (picture, box, image embedding, low-resolution mask, probabilities) into FOLDER.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import sam_torch as st


def main():
    folder, seed = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    folder.mkdir(parents=True, exist_ok=True)
    model = st.Sam({})
    st.randomise(model, seed)
    model.eval()
    optimizer = torch.optim.Adam([model.mask_decoder.iou_token.weight], lr=1e-4)
    torch.save({"model": model.state_dict(), "optimizer": optimizer}, folder / "model.pth")

    g = torch.Generator().manual_seed(seed)
    h, w = 211, 300
    y, x = torch.meshgrid(torch.linspace(0, 1, h), torch.linspace(0, 1, w), indexing="ij")
    grey = 200 * torch.exp(-((y - 0.4) ** 2 + (x - 0.6) ** 2) / 0.05) + 20 * torch.randn(h, w, generator=g)
    picture = grey.clamp(0, 255).to(torch.uint8)[..., None].expand(-1, -1, 3).contiguous()
    boxes = torch.tensor([[120.0, 30, 240, 150], [10, 100, 90, 200]])
    with torch.no_grad():
        image = model.image_encoder(st.predictor_input(picture, 256))
        scale = torch.tensor([256 / w, 256 / h] * 2, dtype=torch.float64)
        masks, iou, *_ = model.decode(image, boxes=(boxes.double() * scale).float())
        best = iou[:, 1:].argmax(1) + 1
        low = masks[torch.arange(2), best][:, None]
        logits = st.bilinear(st.bilinear(low, 256, 256), h, w)
    out = {"picture": picture, "boxes": boxes, "image_embedding": image, "low_res": low, "iou": iou, "best": best,
           "logits": logits, "probabilities": logits.sigmoid()}
    save_file({k: v.contiguous() for k, v in out.items()}, folder / "expected.safetensors")
    print("logits from", float(logits.min()), "to", float(logits.max()))


main()
