"""All numbers of a fixture folder from its inputs: used both to make ours and to check our torch code against others'."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

import sam_torch as st


def load_model(folder):
    config = json.loads((Path(folder) / "config.json").read_text())
    model = st.Sam(config)
    model.load_state_dict(load_file(Path(folder) / "model.safetensors"), strict=True)
    return model.eval()


def expected(model, inputs):
    """`inputs`: image_u8, image2_u8 and CASE.in_*; a case without inputs is named by `none.best`."""
    out = {}
    side = model.config["image_size"]
    x = st.predictor_input(inputs["image_u8"], side)
    out["image_norm"] = x
    traced = [f"block{b}.{p}" for b in (0, 1) for p in (
        "norm1", "attn_out", "norm2", "mlp", "adapter_gate", "adapter_spatial", "adapter")]

    def trace(name, t):
        if name in traced or name.endswith(".out") or name == "patch_embed":
            out[f"enc.{name}"] = t

    one = out["image_embedding"] = model.image_encoder(x, trace=trace)
    two = out["image2_embedding"] = model.image_encoder(st.predictor_input(inputs["image2_u8"], side))
    out["image_embedding_no_adapter"] = model.image_encoder(x, adapters=False)
    out["dense_pe"] = model.prompt_encoder.dense_pe()
    for case in ["point1", "points_neg", "points_pad", "box", "box_points", "mask", "point_mask", "none", "boxes3", "batch2"]:
        if case == "mask" and "mask.in_mask" not in inputs:
            inputs["mask.in_mask"] = inputs["point_mask.in_mask"] = out["point1.low_res_selected"].sigmoid()
        names = {"coords": "in_coords", "labels": "in_labels", "boxes": "in_boxes", "mask": "in_mask"}
        prompts = {k: inputs[f"{case}.{v}"] for k, v in names.items() if f"{case}.{v}" in inputs}
        seen = {}
        image = torch.cat([one, two]) if case == "batch2" else one
        masks, iou, sparse, dense = model.decode(image, trace=seen.__setitem__, **prompts)
        if case in ("box", "points_neg"):
            out.update({f"{case}.{k}": v for k, v in seen.items()})
        if sparse.shape[1]:
            out[f"{case}.sparse"] = sparse
        if case not in ("boxes3", "batch2"):
            out[f"{case}.dense"] = dense
        best = iou[:, 1:].argmax(1)
        selected = masks[torch.arange(len(best)), best + 1][:, None]
        out |= {f"{case}.low_res_all": masks, f"{case}.iou_all": iou, f"{case}.best": best, f"{case}.low_res_selected": selected}
        if case not in ("boxes3", "batch2"):
            out[f"{case}.probs"] = st.bilinear(selected, side, side).sigmoid()
    return out


def preprocess(model, inputs):
    out = {}
    side = model.config["image_size"]
    picture = inputs["image_u8"]
    h, w = picture.shape[:2]
    x = out["net_input"] = st.predictor_input(picture, side)
    image = out["image_embedding"] = model.image_encoder(x)
    scale = torch.tensor([side / w, side / h], dtype=torch.float64)
    for case in ("box", "points"):
        if case == "box":
            prompts = {"boxes": (inputs["box.in_box"].reshape(2, 2) * scale).float().reshape(1, 4)}
        else:
            coords = (inputs["points.in_point_coords"] * scale).float()[None]
            prompts = {"coords": coords, "labels": inputs["points.in_point_labels"][None]}
        masks, iou, *_ = model.decode(image, **prompts)
        best = int(iou[0, 1:].argmax()) + 1
        logits = st.bilinear(st.bilinear(masks[:, best : best + 1], side, side), h, w)
        single = st.bilinear(st.bilinear(masks[:, :1], side, side), h, w)
        out |= {f"{case}.low_res": masks[:, best], f"{case}.iou": iou[:, best], f"{case}.logits": logits[0],
                f"{case}.mask": (logits[0].sigmoid() > 0.5).to(torch.uint8), f"{case}.single_logits": single[0],
                f"{case}.single_iou": iou[:, 0]}
    for name in [k[: -len(".image_u8")] for k in inputs if k.startswith("resize_") and k.endswith(".image_u8")]:
        out[f"{name}.net_input"] = st.predictor_input(inputs[f"{name}.image_u8"], side)
    for name in [k[: -len(".image_u8_channel0")] for k in inputs if k.endswith(".image_u8_channel0")]:
        grey = inputs[f"{name}.image_u8_channel0"][..., None].expand(-1, -1, 3)
        out[f"{name}.net_input_channel0"] = st.predictor_input(grey, side)[0, 0]
    for name in [k[: -len(".image_rgb_u8")] for k in inputs if k.endswith(".image_rgb_u8")]:
        out |= {f"{name}.{k}": v for k, v in loader(inputs, name, side).items()}
    return out


def loader(inputs, name, side):
    """Blue, green, red normalised with the figures of red, green, blue; padded if both sides are small."""
    picture, mask, low = (inputs[f"{name}.{k}"] for k in ("image_rgb_u8", "mask_u8", "post_low_res"))
    h, w = mask.shape
    mean, std = (torch.tensor([float(f"{v:.6g}") for v in t.tolist()], dtype=torch.float64) for t in (st.MEAN, st.STD))
    x = (picture.flip(-1).double() - mean) / std
    middle = st.bilinear(low, side, side)
    if h < side and w < side:
        top, left = (side - h) // 2, (side - w) // 2
        canvas, label = torch.zeros(side, side, 3, dtype=torch.float64), torch.zeros(side, side, dtype=torch.uint8)
        canvas[top : top + h, left : left + w] = x
        label[top : top + h, left : left + w] = (mask != 0).to(torch.uint8)
        post = middle[..., top : top + h, left : left + w]
    else:
        canvas, label = st.stretch(x, side), (st.stretch(mask, side) != 0).to(torch.uint8)
        post = st.bilinear(middle, h, w)
    return {"net_input": canvas.float().permute(2, 0, 1)[None], "label": label[None], "post_logits": post,
            "box_no_noise": largest_box(label)[None]}


def largest_box(label):
    """End-exclusive box of the largest 8-connected component, by spreading numbers until nothing changes."""
    n = label.numel()
    ids = torch.where(label != 0, torch.arange(1, n + 1).reshape(label.shape), 0).float()[None, None]
    while True:
        grown = torch.nn.functional.max_pool2d(ids, 3, 1, 1) * (ids > 0)
        if torch.equal(grown, ids):
            break
        ids = grown
    numbers, counts = ids[ids > 0].unique(return_counts=True)
    y, x = torch.nonzero(ids[0, 0] == numbers[counts.argmax()], as_tuple=True)
    return torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()


def losses(inputs):
    logits, iou = (inputs[k].clone().requires_grad_() for k in ("pred_logits", "pred_iou"))
    focal, dice, error, total = st.loss(logits, inputs["target"], iou)
    total.backward()
    p = logits.detach()
    p = (p.sigmoid() if p.min() < 0 else p) > 0.5
    t = inputs["target"] > 0.5
    both, sum_ = ((p & t).flatten(1).sum(1), p.flatten(1).sum(1) + t.flatten(1).sum(1))
    return {"focal": focal.reshape(1), "dice": dice.reshape(1), "mask_iou": error.reshape(1), "total": total.reshape(1),
            "grad_pred_logits": logits.grad, "grad_pred_iou": iou.grad,
            "metric_dice": (2 * both + 1e-7) / (sum_ + 1e-7), "metric_iou": (both + 1e-7) / (sum_ - both + 1e-7)}


def train_step(model, inputs):
    """(outputs, gradient by name) of one step: boxes, best of three masks a row."""
    model.zero_grad()
    image = model.image_encoder(inputs["images_norm"])
    masks, iou, *_ = model.decode(image, boxes=inputs["boxes"])
    best = iou[:, 1:].argmax(1)
    rows = torch.arange(len(best))
    logits = st.bilinear(masks[rows, best + 1][:, None], *inputs["labels"].shape[-2:])
    chosen = iou[rows, best + 1][:, None]
    total = st.loss(logits, inputs["labels"], chosen)[3]
    total.backward()
    grads = {k: p.grad if p.grad is not None else torch.zeros_like(p) for k, p in model.named_parameters()}
    return {"best": best, "pred_iou": chosen.detach(), "loss": total.detach().reshape(1)}, grads


def from_sam(source, shapes):
    """Position tables of a SAM at other sizes."""
    out = {}
    for key, t in source.items():
        if t.shape == shapes[key]:
            out[key] = t
        elif "pos_embed" in key:
            out[key] = st.bilinear(t.permute(0, 3, 1, 2), *shapes[key][1:3]).permute(0, 2, 3, 1)
        else:
            out[key] = st.bilinear(t[None, None], *shapes[key])[0, 0]
    return out
