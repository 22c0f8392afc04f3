"""SAM, SAM-Med2D and MedSAM in torch, written from their description: a second opinion on volseg's own numbers.

Modules are named after the published checkpoints, so `load_state_dict` takes them strictly. Windows are padded and cut
as the published models do; nothing here shares a trick with the Rust code.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

DEFAULTS = dict(
    image_size=256, patch_size=16, encoder_embed_dim=768, encoder_depth=12, encoder_num_heads=12, encoder_mlp_ratio=4,
    window_size=14, global_attn_indexes=[2, 5, 8, 11], encoder_adapter=True, prompt_embed_dim=256, mask_in_chans=16,
    decoder_depth=2, decoder_num_heads=8, decoder_mlp_dim=2048, iou_head_depth=3, iou_head_hidden_dim=256,
    num_multimask_outputs=3, text=None,
)


class ChannelNorm(nn.Module):
    """Norm over channels at each pixel of B x C x H x W."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        variance = ((x - mean) ** 2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class RelativeAttention(nn.Module):
    def __init__(self, width, heads, side):
        super().__init__()
        self.heads, self.side = heads, side
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x):
        b, k, _, d = x.shape
        w = d // self.heads
        q, key, v = self.qkv(x).reshape(b, k * k, 3, self.heads, w).permute(2, 0, 3, 1, 4)
        logits = (q / math.sqrt(w)) @ key.transpose(-1, -2)
        i = torch.arange(k, device=x.device)
        apart = i[:, None] - i[None, :] + k - 1
        rows, columns = self.rel_pos_h[apart], self.rel_pos_w[apart]
        grid = q.reshape(b, self.heads, k, k, w)
        vertical = torch.einsum("bnyxc,yzc->bnyxz", grid, rows)
        horizontal = torch.einsum("bnyxc,xzc->bnyxz", grid, columns)
        bias = vertical[..., :, None] + horizontal[..., None, :]
        logits = logits + bias.reshape(b, self.heads, k * k, k * k)
        out = (logits.softmax(-1) @ v).transpose(1, 2).reshape(b, k, k, d)
        return self.proj(out)


class Mlp2(nn.Module):
    def __init__(self, width, hidden, act):
        super().__init__()
        self.lin1, self.lin2, self.act = nn.Linear(width, hidden), nn.Linear(hidden, width), act

    def forward(self, x):
        return self.lin2(self.act(self.lin1(x)))


class Adapter(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.channel = nn.Sequential(
            nn.Linear(width, width // 4, bias=False), nn.ReLU(), nn.Linear(width // 4, width, bias=False), nn.Sigmoid())
        self.spatial = nn.Sequential(
            nn.Conv2d(width, width, 3, 2, 1, bias=False), nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False), nn.ReLU())

    def forward(self, x, trace, name):
        x = x.permute(0, 3, 1, 2)
        gate = self.channel(x.mean((2, 3)))
        trace(f"{name}.adapter_gate", gate)
        s = self.spatial(x * gate[:, :, None, None])
        trace(f"{name}.adapter_spatial", s)
        out = self.norm((x + s).permute(0, 2, 3, 1))
        trace(f"{name}.adapter", out)
        return out


class Block(nn.Module):
    def __init__(self, c, n):
        super().__init__()
        d, grid = c["encoder_embed_dim"], c["image_size"] // c["patch_size"]
        self.window = 0 if n in c["global_attn_indexes"] else c["window_size"]
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-6), nn.LayerNorm(d, eps=1e-6)
        self.attn = RelativeAttention(d, c["encoder_num_heads"], self.window or grid)
        self.mlp = Mlp2(d, d * c["encoder_mlp_ratio"], nn.GELU())
        if c["encoder_adapter"]:
            self.Adapter = Adapter(d)

    def forward(self, x, adapters, trace, name):
        b, g, _, d = x.shape
        n = self.norm1(x)
        trace(f"{name}.norm1", n)
        if k := self.window:
            t = -(-g // k)
            n = F.pad(n, (0, 0, 0, t * k - g, 0, t * k - g))
            n = n.reshape(b, t, k, t, k, d).transpose(2, 3).reshape(b * t * t, k, k, d)
        a = self.attn(n)
        trace(f"{name}.attn_out", a)
        if k:
            a = a.reshape(b, t, t, k, k, d).transpose(2, 3).reshape(b, t * k, t * k, d)[:, :g, :g]
        x = x + a
        n = self.norm2(x)
        trace(f"{name}.norm2", n)
        m = self.mlp(n)
        trace(f"{name}.mlp", m)
        out = x + m
        if adapters and hasattr(self, "Adapter"):
            out = out + self.Adapter(n, trace, name)
        trace(f"{name}.out", out)
        return out


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, p, out, grid = c["encoder_embed_dim"], c["patch_size"], c["prompt_embed_dim"], c["image_size"] // c["patch_size"]
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, d, p, p)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, d))
        self.blocks = nn.ModuleList(Block(c, n) for n in range(c["encoder_depth"]))
        self.neck = nn.Sequential(
            nn.Conv2d(d, out, 1, bias=False), ChannelNorm(out), nn.Conv2d(out, out, 3, padding=1, bias=False), ChannelNorm(out))

    def forward(self, x, adapters=True, trace=lambda *_: None):
        x = self.patch_embed.proj(x).permute(0, 2, 3, 1)
        trace("patch_embed", x)
        x = x + self.pos_embed
        for n, block in enumerate(self.blocks):
            x = block(x, adapters, trace, f"block{n}")
        return self.neck(x.permute(0, 3, 1, 2))


class Vector(nn.Module):
    """One or more learned vectors under the name `weight`."""

    def __init__(self, n, d):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n, d))


class Positions(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, d // 2))

    def forward(self, p):
        angle = 2 * math.pi * ((2 * p - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angle.sin(), angle.cos()], -1)


class PromptEncoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, m = c["prompt_embed_dim"], c["mask_in_chans"]
        self.size, self.grid, self.d = c["image_size"], c["image_size"] // c["patch_size"], d
        self.pe_layer = Positions(d)
        self.point_embeddings = nn.ModuleList(Vector(1, d) for _ in range(4))
        self.not_a_point_embed, self.no_mask_embed = Vector(1, d), Vector(1, d)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, m // 4, 2, 2), ChannelNorm(m // 4), nn.GELU(), nn.Conv2d(m // 4, m, 2, 2), ChannelNorm(m), nn.GELU(),
            nn.Conv2d(m, d, 1))
        if c["text"]:
            self.text_proj = nn.Linear(c["text"]["embed_dim"], d)

    def dense_pe(self):
        middle = (torch.arange(self.grid, device=self.no_mask_embed.weight.device) + 0.5) / self.grid
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        return self.pe_layer(torch.stack([x, y], -1)).permute(2, 0, 1)[None]

    def forward(self, coords=None, labels=None, boxes=None, mask=None, text=None):
        rows = next((len(t) for t in (coords, boxes, mask, text) if t is not None), 1)
        tokens = []
        if coords is not None:
            if boxes is None:
                coords = torch.cat([coords, torch.zeros(rows, 1, 2)], 1)
                labels = torch.cat([labels, -torch.ones(rows, 1, dtype=labels.dtype)], 1)
            t = self.pe_layer((coords + 0.5) / self.size)
            kind = labels[..., None]
            t = torch.where(kind == -1, self.not_a_point_embed.weight.expand_as(t), t)
            t = t + (kind == 0) * self.point_embeddings[0].weight + (kind == 1) * self.point_embeddings[1].weight
            tokens.append(t)
        if boxes is not None:
            t = self.pe_layer((boxes.reshape(rows, 2, 2) + 0.5) / self.size)
            tokens.append(t + torch.cat([self.point_embeddings[2].weight, self.point_embeddings[3].weight]))
        if text is not None:
            # Features of unit length, behind all other tokens.
            tokens.append(self.text_proj(text * math.sqrt(text.shape[1]))[:, None])
        sparse = torch.cat(tokens, 1) if tokens else torch.zeros(rows, 0, self.d)
        if mask is None:
            dense = self.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(rows, -1, self.grid, self.grid)
        else:
            dense = self.mask_downscaling(mask)
        return sparse, dense


class Attention(nn.Module):
    def __init__(self, d, inner, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(d, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, d)

    def forward(self, q, k, v):
        def split(t):
            return t.reshape(len(t), t.shape[1], self.heads, -1).transpose(1, 2)

        q, k, v = split(self.q_proj(q)), split(self.k_proj(k)), split(self.v_proj(v))
        out = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1) @ v
        return self.out_proj(out.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, c, first):
        super().__init__()
        d, heads = c["prompt_embed_dim"], c["decoder_num_heads"]
        self.first = first
        self.self_attn = Attention(d, d, heads)
        self.cross_attn_token_to_image = Attention(d, d // 2, heads)
        self.cross_attn_image_to_token = Attention(d, d // 2, heads)
        self.mlp = Mlp2(d, c["decoder_mlp_dim"], nn.ReLU())
        for n in range(1, 5):
            setattr(self, f"norm{n}", nn.LayerNorm(d))

    def forward(self, q, start, keys, pe):
        if self.first:
            q = self.self_attn(q, q, q)
        else:
            q = q + self.self_attn(q + start, q + start, q)
        q = self.norm1(q)
        q = self.norm2(q + self.cross_attn_token_to_image(q + start, keys + pe, keys))
        q = self.norm3(q + self.mlp(q))
        return q, self.norm4(keys + self.cross_attn_image_to_token(keys + pe, q + start, q))


class MlpN(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))

    def forward(self, x):
        for n, layer in enumerate(self.layers):
            x = layer(x if n == 0 else x.relu())
        return x


class Decoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, self.masks = c["prompt_embed_dim"], c["num_multimask_outputs"] + 1
        t = self.transformer = nn.Module()
        t.layers = nn.ModuleList(Layer(c, n == 0) for n in range(c["decoder_depth"]))
        t.final_attn_token_to_image = Attention(d, d // 2, c["decoder_num_heads"])
        t.norm_final_attn = nn.LayerNorm(d)
        self.iou_token, self.mask_tokens = Vector(1, d), Vector(self.masks, d)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(d, d // 4, 2, 2), ChannelNorm(d // 4), nn.GELU(), nn.ConvTranspose2d(d // 4, d // 8, 2, 2), nn.GELU())
        self.output_hypernetworks_mlps = nn.ModuleList(MlpN([d, d, d, d // 8]) for _ in range(self.masks))
        hidden = [c["iou_head_hidden_dim"]] * (c["iou_head_depth"] - 1)
        self.iou_prediction_head = MlpN([d, *hidden, self.masks])

    def forward(self, image, pe, sparse, dense, trace=lambda *_: None):
        rows = len(sparse)
        start = torch.cat([self.iou_token.weight, self.mask_tokens.weight])[None].expand(rows, -1, -1)
        start = torch.cat([start, sparse], 1)
        source = image + dense
        _, d, g, _ = source.shape
        keys, pe = source.flatten(2).transpose(1, 2), pe.flatten(2).transpose(1, 2)
        q = start
        for layer in self.transformer.layers:
            q, keys = layer(q, start, keys, pe)
        q = self.transformer.norm_final_attn(q + self.transformer.final_attn_token_to_image(q + start, keys + pe, keys))
        trace("hs", q)
        trace("src", keys)
        up = self.output_upscaling(keys.transpose(1, 2).reshape(rows, d, g, g))
        trace("upscaled", up)
        weights = torch.stack([mlp(q[:, 1 + n]) for n, mlp in enumerate(self.output_hypernetworks_mlps)], 1)
        masks = torch.einsum("bmc,bchw->bmhw", weights, up)
        return masks, self.iou_prediction_head(q[:, 0])


class Sam(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = self.config = {**DEFAULTS, **config}
        self.image_encoder, self.prompt_encoder, self.mask_decoder = Encoder(c), PromptEncoder(c), Decoder(c)

    def decode(self, image, trace=lambda *_: None, **prompts):
        sparse, dense = self.prompt_encoder(**prompts)
        masks, iou = self.mask_decoder(image, self.prompt_encoder.dense_pe(), sparse, dense, trace)
        return masks, iou, sparse, dense


def randomise(model, seed):
    """Random numbers everywhere, also where training starts at zero, of a size that keeps activations tame."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, t in sorted(model.state_dict().items()):
            noise = torch.randn(t.shape, generator=g)
            norm = "norm" in name or ".neck.1" in name or ".neck.3" in name or "upscaling.1" in name or "downscaling.1" in name or "downscaling.4" in name
            if norm and name.endswith("weight"):
                t.copy_(1 + 0.2 * noise)
            elif t.dim() == 1:
                t.copy_(0.1 * noise)
            elif "gaussian" in name or "point" in name or "token.weight" in name or "tokens.weight" in name or "no_mask" in name:
                t.copy_(noise)
            elif "pos" in name:
                t.copy_(0.3 * noise)
            else:
                t.copy_(noise / math.sqrt(t[0].numel()) * (4 if "Adapter.spatial.2" in name else 1.2))


MEAN = torch.tensor([123.675, 116.28, 103.53])
STD = torch.tensor([58.395, 57.12, 57.375])


def nearest(n, out):
    r = 1 / (out / n)
    return [min(math.floor(i * r), n - 1) for i in range(out)]


def stretch(picture, side):
    """H x W (x C) by OpenCV's nearest neighbour."""
    return picture[nearest(picture.shape[0], side)][:, nearest(picture.shape[1], side)]


def predictor_input(picture, side):
    """H x W x 3 bytes -> 1 x 3 x side x side."""
    x = (torch.as_tensor(picture).float() - MEAN) / STD
    return stretch(x, side).permute(2, 0, 1)[None]


def bilinear(x, h, w):
    return F.interpolate(x, (h, w), mode="bilinear", align_corners=False)


def loss(logits, truth, iou):
    """(focal, dice, IoU error, total) of section 7."""
    s = logits.sigmoid()
    focal = -(0.25 * truth * (1 - s) ** 2 * (s + 1e-12).log() + 0.75 * (1 - truth) * s**2 * (1 - s + 1e-12).log())
    focal = focal.sum() / logits.numel()
    both, total = (s * truth).sum(), s.sum() + truth.sum()
    dice = 1 - (2 * both + 1) / (total + 1)
    true = (both + 1e-7) / (total - both + 1e-7)
    error = ((iou - true) ** 2).mean()
    return focal, dice, error, 20 * focal + dice + error
