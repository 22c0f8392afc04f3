#!/usr/bin/env python3
"""Second part of the training of the shipped image-text model: its last block becomes linear in the patches, so that the gradient of
a text's score says which channels belong to the text.

    scripts/train_clip_readout.py MODEL.safetensors SPLIT.json BUSI CXR_LUNGS PHANTOMS -o OUT.safetensors [--steps 1500]

MODEL and SPLIT are what `volseg train clip` left; PHANTOMS holds folders that `volseg phantom --modality ct -o` wrote, seeds of 1000 and
more to train on, 900 to 999 to validate. The last attention weighs all tokens alike (queries and keys are zero) and the last MLP is
silent; its values, the head, norms and the text projection are fitted: presence of each organ against the text of "none", and the
map of Grad-CAM (through the gradient itself) against the patches that the organ covers. Everything before the last attention stays as it is.
Needs torch, timm, numpy, pillow, scipy, nibabel, safetensors.
"""
import argparse, json, pathlib, sys, time
import nibabel, numpy as np, scipy.ndimage as nd, torch, torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer

ORGANS = ["spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta", "inferior vena cava", "pancreas",
          "right adrenal gland", "left adrenal gland", "duodenum", "urinary bladder", "prostate or uterus", "lungs", "breast tumor"]
SYNONYMS = {4: ["gall bladder"], 5: ["oesophagus"], 8: ["abdominal aorta"], 9: ["postcava"], 14: ["bladder"], 15: ["prostate", "uterus"],
            16: ["lung fields", "chest x-ray"], 17: ["breast tumour", "benign breast tumor", "malignant breast tumor"]}


class Text(torch.nn.Module):
    """BERT as the official layout names it, without transformers."""
    def __init__(self, state, config, vocabulary):
        super().__init__()
        from transformers import BertConfig, BertModel, BertTokenizerFast
        t = config["text"]
        self.bert = BertModel(BertConfig(vocab_size=t["vocab"], hidden_size=t["width"], num_hidden_layers=t["depth"],
            num_attention_heads=t["heads"], intermediate_size=t["intermediate"], max_position_embeddings=t["max_pos"],
            layer_norm_eps=t["ln_eps"], hidden_dropout_prob=0, attention_probs_dropout_prob=0), add_pooling_layer=False).eval()
        self.bert.load_state_dict({k[17:]: v for k, v in state.items() if k.startswith("text.transformer.")})
        self.proj = torch.nn.Sequential(torch.nn.Linear(t["width"], t["proj_hidden"], bias=False), torch.nn.GELU(),
                                        torch.nn.Linear(t["proj_hidden"], config["embed_dim"], bias=False))
        self.proj.load_state_dict({k[10:]: v for k, v in state.items() if k.startswith("text.proj.")})
        self.tokens = BertTokenizerFast(vocab={w: n for n, w in enumerate(vocabulary)}, do_lower_case=True)

    def hidden(self, texts):
        batch = self.tokens(texts, padding=True, truncation=True, max_length=96, return_tensors="pt")
        return self.bert(batch.input_ids, attention_mask=batch.attention_mask)[0][:, 0]


def body(hu):
    sides = []
    for s in range(0, hu.shape[2], max(1, hu.shape[2] // 24)):
        ids, n = nd.label(hu[:, :, s] > -400)
        if n:
            big = 1 + np.argmax(np.bincount(ids.ravel())[1:])
            xs, ys = np.nonzero(ids == big)
            sides.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    q = np.sort(np.array(sides), axis=0)
    n, (w, h, _) = len(q), hu.shape
    margin = round(0.02 * max(w, h))
    return (max(0, q[n // 10, 0] - margin), max(0, q[n // 10, 1] - margin),
            min(w, q[n - 1 - n // 10, 2] + margin), min(h, q[n - 1 - n // 10, 3] + margin))


def squash(grey, side):
    return np.asarray(Image.fromarray(grey).resize((side, side), Image.BICUBIC), np.float32) / 255


def share(mask, side):
    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize((side, side), Image.BOX), np.float32)


def view(grey, masks, side, grid, random, moves):
    """grey uint8 (h, w), masks {organ: bool (h, w)}; moves: largest shift and growth as shares."""
    h, w = grey.shape
    if moves:
        x0, x1 = w * random.uniform(-0.5 * moves, moves), w * (1 - random.uniform(-0.5 * moves, moves))
        y0, y1 = h * random.uniform(-0.5 * moves, moves), h * (1 - random.uniform(-0.5 * moves, moves))
        box = [int(v) for v in (x0, y0, x1, y1)]
        pad = ((max(0, -box[1]), max(0, box[3] - h)), (max(0, -box[0]), max(0, box[2] - w)))
        cut = lambda m: np.pad(m, pad)[max(0, box[1]):, max(0, box[0]):][:box[3] - box[1], :box[2] - box[0]]
        grey, masks = cut(grey), {o: cut(m) for o, m in masks.items()}
    x = squash(np.ascontiguousarray(grey), side)
    if moves:
        x = np.clip(x ** np.exp(random.uniform(-0.35, 0.35)) * np.exp(random.uniform(-0.15, 0.15)) + random.normal(0, random.uniform(0, 0.03), x.shape), 0, 1)
    cover = np.zeros((17, grid, grid), np.float32)
    for o, m in masks.items():
        cover[o - 1] = share(m, grid)
    # What the least visible organ still shows: two of 112 x 112 pixels.
    return x.astype(np.float32), cover, (cover.sum((1, 2)) * (side / grid) ** 2 >= 2)


def cases(a, part):
    """(kind, list of (grey, masks))"""
    split = json.loads(a.split.read_text())
    for organ, folder, number in (("lungs", a.lungs, 16), ("breast_tumor", a.busi, 17)):
        for name in sorted(n for n, p in split[organ].items() if p == part):
            read = lambda kind: np.asarray(Image.open(folder / kind / f"{name}.png").convert("L"))
            mask = read("masks") > 0
            yield organ, (read("images"), {number: mask} if mask.any() else {})
    for folder in sorted(f for f in a.phantoms.iterdir() if f.name.isdigit()):
        seed = int(folder.name)
        if not (1000 <= seed < 900000 if part == "Train" else 900 <= seed < 1000) or not (folder / "labels.nii.gz").exists():
            continue
        image = nibabel.as_closest_canonical(nibabel.load(folder / "image.nii.gz"))
        hu = np.asarray(image.dataobj, np.float32)
        labels = np.asarray(nibabel.as_closest_canonical(nibabel.load(folder / "labels.nii.gz")).dataobj).astype(np.uint8)
        # Shown: columns to the patient's left, rows to the back.
        hu, labels = hu[::-1, ::-1], labels[::-1, ::-1]
        x0, y0, x1, y1 = body(hu)
        hu, labels = hu[x0:x1, y0:y1], labels[x0:x1, y0:y1]
        for s in range(0, hu.shape[2], 3 if part == "Train" else 5):
            grey = np.clip(np.round((hu[:, :, s].T + 160) / 400 * 255), 0, 255).astype(np.uint8)
            lab = labels[:, :, s].T
            yield "ct", (grey, {int(o): lab == o for o in np.unique(lab) if 1 <= o <= 15})


class Net(torch.nn.Module):
    def __init__(self, file):
        super().__init__()
        with safe_open(file, "pt") as f:
            self.meta = f.metadata()
        self.state = {k: v.float() for k, v in load_file(file).items()}
        self.config = c = json.loads(self.meta["config"])
        v = c["vision"]
        self.trunk = VisionTransformer(img_size=c["image_size"], patch_size=c["patch"], embed_dim=v["width"], depth=v["depth"],
            num_heads=v["heads"], mlp_ratio=v["mlp_ratio"], num_classes=0)
        self.trunk.load_state_dict({k[13:]: t for k, t in self.state.items() if k.startswith("visual.trunk.")})
        self.head = torch.nn.Linear(v["width"], c["embed_dim"], bias=False)
        self.head.weight.data = self.state["visual.head.proj.weight"].clone()
        self.text = Text(self.state, c, self.meta["vocab"].rstrip("\n").split("\n"))
        self.scale = torch.nn.Parameter(self.state["logit_scale"].clone())
        self.mean, self.std = (torch.tensor(c[k])[:, None, None] for k in ("mean", "std"))
        last, d = self.trunk.blocks[-1], v["width"]
        with torch.no_grad():
            for t in (last.attn.qkv.weight, last.attn.qkv.bias, last.attn.proj.bias, last.mlp.fc2.weight, last.mlp.fc2.bias):
                t.zero_()
            last.attn.qkv.weight[2 * d:] = torch.eye(d)
            # `train clip` dealt the channels out to the organs and to "none": each group is led to its text's own direction.
            self.groups = torch.zeros(d, 18)
            for n in range(d // 18 * 18):
                self.groups[n, n % 18] = 18 / d
            texts = F.normalize(self.text.proj(self.text.hidden(ORGANS + ["background"])), dim=-1)
            duals = torch.linalg.pinv(texts)
            last.attn.proj.weight.copy_(torch.linalg.pinv(self.head.weight * self.trunk.norm.weight) @ duals @ self.groups.T)

    def prefix(self, grey, cover=None):
        x = (grey[:, None] - self.mean) / self.std
        if cover is not None:
            x = x * cover[:, None]
        x = self.trunk._pos_embed(self.trunk.patch_embed(x))
        for block in self.trunk.blocks[:-1]:
            x = block(x)
        return x[:, 0], self.trunk.blocks[-1].norm1(x)

    def answer(self, cls, pooled):
        last, d = self.trunk.blocks[-1], cls.shape[-1]
        mixed = pooled @ last.attn.qkv.weight[2 * d:].T
        return F.normalize(self.head(self.trunk.norm(cls + mixed @ last.attn.proj.weight.T + last.attn.proj.bias)), dim=-1)


def covers(cover, present, random, side):
    """Soft masks as saliency will show them: of one organ, or of a spot."""
    out = []
    for c, p in zip(cover.numpy(), present.numpy()):
        low = np.zeros(c.shape[1:], np.float32)
        shown = np.flatnonzero(p)
        if len(shown) and random.random() < 0.7:
            low = c[random.choice(shown)]
            low = low / max(1e-6, low.max())
        else:
            y, x = np.mgrid[:low.shape[0], :low.shape[1]]
            r = random.uniform(0.1, 0.35) * len(low)
            low = np.exp(-((x - random.uniform(0, len(low))) ** 2 + (y - random.uniform(0, len(low))) ** 2) / r ** 2)
        floor = random.uniform(0, 0.35)
        low = np.clip(floor + (1 - floor) * low + random.uniform(0, 0.2) * random.uniform(-0.5, 0.5, low.shape), 0, 1)
        out.append(np.asarray(Image.fromarray(low.astype(np.float32)).resize((side, side), Image.BILINEAR)))
    return torch.tensor(np.stack(out))


def losses(net, text, none, views, masked=None):
    cls, act, cover, present, kind = views
    act = act * net.gain + net.shift
    pooled = act.mean(1)
    if not pooled.requires_grad:
        pooled.requires_grad_()
    f = net.answer(cls, pooled)
    above = net.scale.exp() * (f @ text.T - (f @ none.T))
    target = present.float()
    known = torch.ones_like(target)
    known[kind == 0, 15] = 0  # lung bases in CT are seen but not labelled
    if masked is not None:
        full = cover.sum((2, 3))
        seen = (cover * F.adaptive_avg_pool2d(masked[:, None], cover.shape[-1])).sum((2, 3)) / full.clamp(min=1e-6)
        target = target * ((seen - 0.35) / 0.4).clamp(0, 1)
    boost = known * (1 + 1.5 * (target > 0))
    presence = (F.binary_cross_entropy_with_logits(above, target, reduction="none") * boost).sum() / boost.sum()
    if masked is not None:
        return presence, None, above
    # Grad-CAM itself, for every organ that is there and one that is not.
    chosen = present.clone()
    chosen[torch.arange(len(cls)), torch.randint(0, 17, (len(cls),))] |= torch.rand(len(cls)) < 0.3
    chosen &= known > 0
    place, n = 0, 0
    own = F.normalize(net.groups, dim=0)
    score = net.scale.exp() * (f @ text.T)
    for o in torch.nonzero(chosen.any(0)).flatten():
        rows = torch.nonzero(chosen[:, o]).flatten()
        g, = torch.autograd.grad(score[rows, o].sum(), pooled, create_graph=True)
        g = F.normalize(g[rows], dim=-1) * g.shape[-1] ** 0.5
        m = (act[rows, 1:] * g[:, None]).mean(-1) * net.sharp
        c = cover[rows, o].flatten(1)
        w = 0.25 + c * (c.shape[1] / c.sum(1, keepdim=True).clamp(min=0.2)).sqrt().clamp(max=10)
        entropy = lambda z: (F.binary_cross_entropy_with_logits(z, c, reduction="none") * w).sum() / w.mean() / c.shape[1]
        # The map is stretched by its peak and cut at a half, so that is asked for as well.
        there = (c.amax(1, keepdim=True) > 0.3).float()
        stretched = 8 * (m / m.amax(1, keepdim=True).clamp(min=0.05) - 0.5)
        away = (1 - F.normalize(g, dim=-1) @ own[:, o]).sum()
        seven = (act[rows, 1:] * net.groups[:, o]).sum(-1)
        sevens = 8 * (seven / seven.amax(1, keepdim=True).clamp(min=0.05) - 0.5)
        place = place + entropy(there * sevens + (1 - there) * net.sharp * seven)
        place = place + 0.5 * entropy(m) + 0.5 * entropy(there * stretched + (1 - there) * m) + 0.5 * away
        n += len(rows)
    return presence, place / max(1, n), above


def check(net, text, none, views):
    rows = {}
    with torch.enable_grad():
        for s in range(0, len(views[0]), 64):
            part = slice(s, s + 64)
            cls, act, cover, present, kind = [t[part] for t in views]
            act = (act * net.gain + net.shift).detach()
            pooled = act.mean(1).requires_grad_()
            f = net.answer(cls, pooled)
            score, above = net.scale.exp() * f @ text.T, net.scale.exp() * (f @ text.T - f @ none.T)
            for o in range(17):
                g, = torch.autograd.grad(score[:, o].sum(), pooled, retain_graph=True)
                m = (act[:, 1:] * g[:, None]).sum(-1)
                seven = torch.zeros_like(g).scatter(1, g.topk(7).indices, 1.0)
                m7 = (act[:, 1:] * seven[:, None]).sum(-1)
                c, p, k = cover[:, o].flatten(1), present[:, o], kind
                for i in range(len(p)):
                    if k[i] == 0 and o == 15:
                        continue
                    name = ["ct", "lungs", "tumour"][k[i]]
                    rows.setdefault("right." + name, []).append(float((above[i, o] > 0) == p[i]))
                    if p[i]:
                        for key, mm in (("iou.", m), ("iou7.", m7)):
                            a, b = mm[i] > 0, c[i] > 0.5
                            rows.setdefault(key + name, []).append(float((a & b).sum() / (a | b).sum().clamp(min=1)))
                        rows.setdefault("found." + name, []).append(float(above[i, o] > 0))
    return {k: round(float(np.mean(v)), 3) for k, v in sorted(rows.items())}


def main():
    p = argparse.ArgumentParser()
    for n in ("model", "split", "busi", "lungs", "phantoms"):
        p.add_argument(n, type=pathlib.Path)
    p.add_argument("-o", "--out", type=pathlib.Path, required=True)
    p.add_argument("--steps", type=int, default=1500)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--views", type=int, default=480, help="most views of each kind")
    p.add_argument("--rate", type=float, default=2e-3)
    a = p.parse_args()
    torch.manual_seed(1)
    random = np.random.default_rng(1)
    net = Net(a.model)
    # Gain and shift of each channel of the activations; they end in the last block's first norm.
    net.gain, net.shift = (torch.nn.Parameter(v * torch.ones(net.config["vision"]["width"])) for v in (1.0, 0.0))
    net.sharp = torch.nn.Parameter(torch.tensor(3.0))
    side, grid = net.config["image_size"], net.config["image_size"] // net.config["patch"]
    kinds = {"ct": 0, "lungs": 1, "breast_tumor": 2}
    pools = {"ct": [], "lungs": [], "breast_tumor": []}
    for kind, case in cases(a, "Train"):
        pools[kind].append(case)
    print({k: len(v) for k, v in pools.items()}, flush=True)

    def seen(items, hide=False):
        """What the frozen part makes of views: class token, activations, cover, presence, kind, and the mask before them."""
        out = []
        for s in range(0, len(items), 32):
            xs, cs, ps = zip(*(view(g, m, side, grid, random, mv) for _, (g, m), mv in items[s:s + 32]))
            cover, present = torch.tensor(np.stack(cs)), torch.tensor(np.stack(ps))
            hidden = covers(cover, present, random, side) if hide else None
            with torch.no_grad():
                cls, act = net.prefix(torch.tensor(np.stack(xs)), hidden)
            out.append([cls, act, cover, present, torch.tensor([kinds[k] for k, _, _ in items[s:s + 32]])] + ([hidden] if hide else []))
        return [torch.cat(t) for t in zip(*out)]

    valid = seen([(k, c, 0) for k, c in cases(a, "Validation")])
    items = []
    for kind, pool in pools.items():
        pick = random.permutation(len(pool))[:a.views]
        items += [(kind, pool[n], 0 if n % 2 else 0.12) for n in pick]
    shown, hidden_views = seen(items), seen(items[::2], hide=True)
    print(f"{len(items)} views, {len(items[::2])} of them masked as well", flush=True)
    print(len(valid[0]), "to validate", flush=True)
    words = [o for o in ORGANS] + [s for l in SYNONYMS.values() for s in l] + ["background"]
    owner = list(range(17)) + [n - 1 for n, l in SYNONYMS.items() for _ in l]
    fast = [net.gain, net.shift, net.head.weight, net.scale, net.sharp, net.trunk.norm.weight, net.trunk.norm.bias] + list(net.text.proj.parameters())
    last = net.trunk.blocks[-1]
    fast += [last.attn.proj.weight, last.attn.proj.bias]
    for q in net.parameters():
        q.requires_grad_(False)
    for q in fast:
        q.requires_grad_()
    adam = torch.optim.AdamW(fast, lr=a.rate, weight_decay=0.02, betas=(0.9, 0.98))
    average, start = None, time.time()
    with torch.no_grad():
        hidden = net.text.hidden(words)

    def texts(all_words=False):
        t = F.normalize(net.text.proj(hidden), dim=-1)
        if all_words:
            return t[:17], t[-1:]
        pick = torch.arange(17)
        for n in range(17, len(owner)):
            if random.random() < 0.4:
                pick[owner[n]] = n
        return t[pick], t[-1:]

    def save():
        kept = {n: q.data.clone() for n, q in net.named_parameters()}
        for n, q in net.named_parameters():
            if average is not None and n in average:
                q.data.copy_(average[n])
        out = {"visual.trunk." + k: v for k, v in net.trunk.state_dict().items()}
        norm1 = f"visual.trunk.blocks.{len(net.trunk.blocks) - 1}.norm1."
        out[norm1 + "weight"] = out[norm1 + "weight"] * net.gain.data
        out[norm1 + "bias"] = out[norm1 + "bias"] * net.gain.data + net.shift.data
        out["visual.head.proj.weight"], out["logit_scale"] = net.head.weight.data, net.scale.data
        out |= {k: v for k, v in net.state.items() if k.startswith("text.transformer.")}
        out |= {"text.proj." + k: v for k, v in net.text.proj.state_dict().items()}
        assert out.keys() == net.state.keys()
        meta = dict(net.meta, steps=net.meta["steps"].split("+")[0] + f"+{step}", saliency=json.dumps({"top_k": 7, "softmax_over": "selected"}))
        meta.pop("boxes", None)  # fitted afterwards by train_clip_boxes.py
        meta.pop("sha256", None)  # of the tensors before
        save_file({k: v.half().contiguous() for k, v in out.items()}, a.out, metadata=meta)
        result = check(net, *[t.detach() for t in texts(True)], valid)
        for n, q in net.named_parameters():
            q.data.copy_(kept[n])
        return result

    for step in range(a.steps):
        rate = a.rate * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / a.steps)))
        for g in adam.param_groups:
            g["lr"] = rate
        text, none = texts()
        some = torch.randperm(len(shown[0]))[:a.batch]
        presence, place, _ = losses(net, text, none, [t[some] for t in shown])
        some = torch.randperm(len(hidden_views[0]))[:a.batch]
        *part, cover = [t[some] for t in hidden_views]
        masked, _, _ = losses(net, text, none, part, cover)
        loss = presence + 0.5 * masked + 2.0 * place
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(fast, 1.0)
        adam.step()
        with torch.no_grad():
            if average is None:
                average = {n: q.data.clone() for n, q in net.named_parameters()}
            k = min(0.99, (step + 1) / (step + 10))
            for n, q in net.named_parameters():
                average[n].mul_(k).add_(q.data, alpha=1 - k)
        if step % 25 == 0:
            print(step, f"presence {float(presence):.3f} masked {float(masked):.3f} place {float(place):.3f} {time.time() - start:.0f} s", flush=True)
        if step % 100 == 99 or step + 1 == a.steps:
            print(step + 1, save(), flush=True)


main()
