#!/usr/bin/env python3
"""Makes the small BiomedCLIP fixture of volseg-prompt's tests: make_clip_fixture.py FOLDER [CHANGES.json]

CHANGES replaces sizes (the keys of CONFIG below), `seed`, `picture` (rows, columns) and `k`; {"full_size": true} makes the released model's.

The towers are timm's VisionTransformer and transformers' BertModel, the tokens those of transformers' BertTokenizer, resizing is
Pillow's, gradients are autograd's; the activation maps are written from the published description.
Needs torch, timm, transformers, pillow, safetensors (PyPI). Numbers depend on their versions in the last digits only.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from transformers import BertConfig, BertModel, BertTokenizerFast

CONFIG = dict(
    image_size=40, patch=8, embed_dim=20,
    vision=dict(width=32, depth=3, heads=2, mlp_ratio=2, ln_eps=1e-6),
    text=dict(vocab=96, width=24, depth=2, heads=3, intermediate=40, max_pos=24, context=16, ln_eps=1e-12, proj_hidden=22),
    mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711])
TEXTS = ["liver", "left kidney", "Chest X-Ray", "ÉLAN\tkidneys", "the liver is on the right and the spleen is on the left of the spine"]
FULL = dict(image_size=224, patch=16, embed_dim=512, vision=dict(width=768, depth=12, heads=12, mlp_ratio=4, ln_eps=1e-6),
            text=dict(vocab=30522, width=768, depth=12, heads=12, intermediate=3072, max_pos=512, context=256, ln_eps=1e-12, proj_hidden=640))
WORDS = "the left right liver kidney spleen spine is on of and chest x ray".split()


def vocabulary():
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    special = ["[PAD]", "[MASK]", "[UNK]", "[CLS]", "[SEP]", "-", "."]
    return special + letters + ["##" + c for c in letters] + [w for w in WORDS if len(w) > 1]


def build(seed):
    torch.manual_seed(seed)
    v, t = CONFIG["vision"], CONFIG["text"]
    vision = VisionTransformer(
        img_size=CONFIG["image_size"], patch_size=CONFIG["patch"], embed_dim=v["width"], depth=v["depth"],
        num_heads=v["heads"], mlp_ratio=v["mlp_ratio"], num_classes=0).eval()
    text = BertModel(BertConfig(
        vocab_size=t["vocab"], hidden_size=t["width"], num_hidden_layers=t["depth"], num_attention_heads=t["heads"],
        intermediate_size=t["intermediate"], max_position_embeddings=t["max_pos"], layer_norm_eps=t["ln_eps"]),
        add_pooling_layer=False).eval()
    head = torch.nn.Linear(v["width"], CONFIG["embed_dim"], bias=False)
    proj = torch.nn.Sequential(torch.nn.Linear(t["width"], t["proj_hidden"], bias=False), torch.nn.GELU(),
                               torch.nn.Linear(t["proj_hidden"], CONFIG["embed_dim"], bias=False))
    for module in (vision, text, head, proj):
        for p in module.parameters():
            p.data += (0.08 if CONFIG["vision"]["width"] < 512 else 0.01) * torch.randn_like(p)
    return vision, text, head, proj, torch.tensor(3.1)


def picture(h, w):
    y, x = np.mgrid[0:h, 0:w]
    rng = np.random.default_rng(5)
    planes = [120 + 90 * np.sin(x / (5 + c) + c) * np.cos(y / (7 - c)) + rng.normal(0, 12, (h, w)) for c in range(3)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def normalise(rgb):
    x = torch.from_numpy(np.asarray(rgb).astype(np.float32) / 255).permute(2, 0, 1)
    mean, std = (torch.tensor(CONFIG[k])[:, None, None] for k in ("mean", "std"))
    return ((x - mean) / std)[None]


def crop(image):
    side, (w, h) = CONFIG["image_size"], image.size
    size = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)
    image = image.resize(size, Image.BICUBIC)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return image.crop((left, top, left + side, top + side))


def rest(vision, site, act, residual):
    """Class token from a site of the last block on."""
    block = vision.blocks[-1]
    if site == "prev_block":
        x = block(act)
    elif site == "last_norm1":
        x = residual + block.attn(act)
        x = x + block.mlp(block.norm2(x))
    else:
        x = residual + block.mlp(act)
    return vision.norm(x)[:, 0]


def cut(vision, image, site):
    x = vision.pos_drop(vision._pos_embed(vision.patch_embed(image)))
    for block in vision.blocks[:-1]:
        x = block(x)
    last = vision.blocks[-1]
    if site == "prev_block":
        return x, x
    if site == "last_norm1":
        return last.norm1(x), x
    x = x + last.attn(last.norm1(x))
    return last.norm2(x), x


def stretch(m):
    m = m.clamp(min=0)
    m = m - m.min()
    return m / (m.max() + 1e-8)


def cam(model, image, text, site, rank, k):
    vision, _, head, _, scale = model
    side, grid = CONFIG["image_size"], CONFIG["image_size"] // CONFIG["patch"]
    factor = scale.exp()
    act, residual = (t.detach() for t in cut(vision, image, site))
    act.requires_grad_()
    score = factor * (F.normalize(head(rest(vision, site, act, residual)), dim=-1) @ text)[0]
    g, = torch.autograd.grad(score, act)
    importance = g[0, 0] if rank == "cls" else g[0, 1:].mean(0)
    maps = act.detach()[0, 1:].T.reshape(-1, grid, grid)
    order = importance.argsort(descending=True)
    indices = order[:k]
    masks = F.interpolate(maps[indices][:, None], (side, side), mode="bilinear", align_corners=True)[:, 0]
    low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
    masks = (masks - low) / (high - low + 1e-6)
    with torch.no_grad():
        features = F.normalize(head(vision(image * masks[:, None])), dim=-1)
        scores = (factor * features @ text).nan_to_num(0)
        all_scores = torch.zeros(len(maps))
        all_scores[indices] = scores
        weights = all_scores.softmax(0)
        raw = (weights[:, None, None] * maps).sum(0)
        small = stretch(raw)
        large = stretch(F.interpolate(small[None, None], (side, side), mode="bilinear", align_corners=False)[0, 0])
    out = {"importance": importance, "indices": indices, "indices_sorted": indices.sort().values, "scores": scores,
           "weights": weights, "cam_raw": raw, "cam_low": small, "cam": large, "score": score.reshape(1),
           "activation": maps, "mask_first3": masks[:3]}
    gap = (importance[order[k - 1]] - importance[order[k]]).item()
    return {n: t.detach() for n, t in out.items()}, gap, g[0, 1:].abs().max().item()


def main(folder, changes):
    folder.mkdir(parents=True, exist_ok=True)
    if changes.pop("full_size", False):
        CONFIG.update(FULL)
    seed, size, k = changes.pop("seed", 11), changes.pop("picture", [61, 90]), changes.pop("k", 7)
    CONFIG.update(changes)
    model = vision, text, head, proj, scale = build(seed)
    words = vocabulary()
    assert len(words) <= CONFIG["text"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    state = {"logit_scale": scale, "visual.head.proj.weight": head.weight}
    state |= {f"visual.trunk.{k}": v for k, v in vision.state_dict().items()}
    state |= {f"text.transformer.{k}": v for k, v in text.state_dict().items() if not k.endswith("position_ids")}
    state |= {f"text.proj.{k}": v for k, v in proj.state_dict().items()}
    state = {k: v.detach().contiguous() for k, v in state.items()}
    save_file(state, folder / "model.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, folder / "model.bin")

    out = {}
    rgb = picture(*size)
    image = Image.fromarray(rgb)
    cropped = crop(image)
    out |= {"raw_rgb_u8": torch.from_numpy(rgb), "resized_crop_u8": torch.from_numpy(np.asarray(cropped).copy()),
            "image": normalise(cropped), "image_squash": normalise(image.resize((CONFIG["image_size"],) * 2, Image.BICUBIC))}
    tokenizer = BertTokenizerFast(vocab={w: n for n, w in enumerate(words)}, do_lower_case=True)
    tokens = tokenizer([" ".join(t.split()) for t in TEXTS], padding="max_length", truncation=True,
                       max_length=CONFIG["text"]["context"], return_tensors="pt")
    out |= {"token_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
    with torch.no_grad():
        x = vision.pos_drop(vision._pos_embed(vision.patch_embed(out["image"])))
        out["vision.patch_embed"] = x
        for i, block in enumerate(vision.blocks):
            x = out[f"vision.block{i}"] = block(x)
        x = out["vision.norm"] = vision.norm(x)
        raw = out["image_features_raw"] = head(x[:, 0])
        assert torch.allclose(vision(out["image"]), x[:, 0], atol=1e-6)
        out["image_features"] = F.normalize(raw, dim=-1)
        hidden = out["text.last_hidden_state"] = text(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        out["text_features_raw"] = proj(hidden[:, 0])
        out["text_features"] = F.normalize(out["text_features_raw"], dim=-1)
        out["logits_per_image"] = scale.exp() * out["image_features"] @ out["text_features"].T
    cams = []
    for p, (site, rank) in [(0, ("last_norm1", "patch")), (0, ("last_norm2", "cls")), (0, ("prev_block", "patch")),
                            (1, ("last_norm1", "patch")), (2, ("last_norm1", "patch")), (2, ("last_norm2", "cls"))]:
        parts, gap, _ = cam(model, out["image"], out["text_features"][p], site, rank, k)
        key = f"cam.p{p}.{site}.{rank}"
        out |= {f"{key}.{n}": t for n, t in parts.items()}
        cams.append({"key": key, "prompt": TEXTS[p], "layer": site, "rank": rank, "k": k, "gap": gap})
    _, _, largest = cam(model, out["image"], out["text_features"][0], "last_norm2", "patch", k)
    assert largest == 0, "no patch reaches the class token behind the last attention"
    save_file({n: t.contiguous().clone() for n, t in out.items()}, folder / "expected.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | {"texts": TEXTS, "cams": cams}, indent=1) + "\n")


main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else {})
