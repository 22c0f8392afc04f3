#!/usr/bin/env python3
"""A random ViT-B checkpoint in the official layout, and our torch code's probabilities for a picture of it.

full_size.py FOLDER [SEED [sam-med2d|sam|medsam]]: writes model.pth and expected.safetensors (picture, boxes, image
embedding, low-resolution masks, probabilities) into FOLDER. SAM-Med2D is saved as its training script does (1.09 GB:
{"model": state dict, "optimizer": an Adam object}), the others as bare state dicts. Those two need Pillow as well.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import sam_torch as st


def main():
    folder, seed = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    arch = sys.argv[3] if len(sys.argv) > 3 else "sam-med2d"
    folder.mkdir(parents=True, exist_ok=True)
    side = 256 if arch == "sam-med2d" else 1024
    model = st.Sam({"image_size": side, "encoder_adapter": arch == "sam-med2d"})
    st.randomise(model, seed)
    model.eval()
    optimizer = torch.optim.Adam([model.mask_decoder.iou_token.weight], lr=1e-4)
    state = model.state_dict()
    torch.save({"model": state, "optimizer": optimizer} if arch == "sam-med2d" else state, folder / "model.pth")

    g = torch.Generator().manual_seed(seed)
    h, w = 211, 300
    y, x = torch.meshgrid(torch.linspace(0, 1, h), torch.linspace(0, 1, w), indexing="ij")
    grey = 200 * torch.exp(-((y - 0.4) ** 2 + (x - 0.6) ** 2) / 0.05) + 20 * torch.randn(h, w, generator=g)
    picture = grey.clamp(0, 255).to(torch.uint8)[..., None].expand(-1, -1, 3).contiguous()
    boxes = torch.tensor([[120.0, 30, 240, 150], [10, 100, 90, 200]])
    with torch.no_grad():
        x, (fh, fw) = network_input(picture, arch, side)
        image = model.image_encoder(x)
        scale = torch.tensor([fw / w, fh / h] * 2, dtype=torch.float64)
        masks, iou, *_ = model.decode(image, boxes=(boxes.double() * scale).float())
        best = iou[:, 1:].argmax(1) + 1 if arch == "sam-med2d" else torch.zeros(2, dtype=torch.int64)
        low = masks[torch.arange(2), best][:, None]
        if arch == "medsam":
            probabilities = st.bilinear(low.sigmoid(), h, w)
        else:
            probabilities = st.bilinear(st.bilinear(low, side, side)[..., :fh, :fw], h, w).sigmoid()
    out = {"picture": picture, "boxes": boxes, "image_embedding": image, "low_res": low, "iou": iou, "best": best,
           "probabilities": probabilities}
    save_file({k: v.contiguous() for k, v in out.items()}, folder / "expected.safetensors")
    print("probabilities from", float(probabilities.min()), "to", float(probabilities.max()))


def network_input(picture, arch, side):
    """(input, height and width of the picture in it)"""
    if arch == "sam-med2d":
        return st.predictor_input(picture, side), (side, side)
    from PIL import Image

    h, w = picture.shape[:2]
    fh, fw = (side, side) if arch == "medsam" else (int(n * side / max(h, w) + 0.5) for n in (h, w))
    small = torch.tensor(list(Image.fromarray(picture.numpy()).resize((fw, fh), Image.BILINEAR).tobytes()))
    small = small.reshape(fh, fw, 3).float()
    x = (small - small.min()) / (small.max() - small.min()) if arch == "medsam" else (small - st.MEAN) / st.STD
    return F.pad(x.permute(2, 0, 1)[None], (0, side - fw, 0, side - fh)), (fh, fw)


main()
