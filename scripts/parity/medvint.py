#!/usr/bin/env python3
"""A small MedVInT with random weights in torch and transformers, and what it answers: medvint.py FOLDER [SEED]

Writes pytorch_model.bin (the published names: LLaMA behind llamacasual.base_model.model, LoRA beside its matrices, buffers that
importers must pass over), config.json (for `weights import --config`), tokenizer.model, expected.safetensors and questions.json.
Needs torch, transformers, sentencepiece, pillow, safetensors (PyPI). The fixture crates/volseg-model/tests/fixtures/medvint_tiny is
its output for seed 9. To compare:

    volseg weights import FOLDER/pytorch_model.bin -o FOLDER/model.safetensors --arch medvint --config FOLDER/config.json \
        --vocab FOLDER/tokenizer.model
    cargo run --release -p volseg-model --example medvint -- FOLDER
"""

import io
import json
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from torch import nn

CONFIG = dict(
    image_size=64,
    vision=dict(width=2, blocks=[1, 2, 1]),
    queries=dict(count=4, layers=2, heads=4, hidden=48),
    language=dict(vocab=320, width=64, layers=2, heads=4, hidden=64, eps=1e-6, rope_theta=10000.0, positions=160),
    lora_scale=4.0,
    most_tokens=20,
    stop=[1, 2],
)
QUESTIONS = ["What is the shape of the liver and where is it located?", "Is the Gefäß dilated (> 3 cm)?", "Why?"]
WORDS = """The liver is a large organ on the right. The spleen is on the left. What is the shape of the kidney and where is it
located? Question: Is there a stone in the gallbladder? The Answer is: no. The aorta lies in front of the spine. A round mass with
smooth margins is benign. The urinary bladder is filled with fluid. Briefly describe the condition of lungs and location of pathologies."""


def tokenizer():
    model = io.BytesIO()
    sentences = iter([s.strip() for s in WORDS.replace("\n", " ").split(".") for _ in range(3)])
    spm.SentencePieceTrainer.train(
        sentence_iterator=sentences, model_writer=model, vocab_size=CONFIG["language"]["vocab"], model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=1.0, minloglevel=2)
    return model.getvalue()


class Bottleneck(nn.Module):
    def __init__(self, inputs, inner, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3, self.bn3 = nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner)
        self.downsample = None
        if stride > 1 or inputs != 4 * inner:
            conv = nn.Conv2d(inputs, 4 * inner, 1, bias=False)
            self.downsample = nn.Sequential(OrderedDict([("-1", nn.AvgPool2d(stride)), ("0", conv), ("1", nn.BatchNorm2d(4 * inner))]))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.pool(self.bn2(self.conv2(y)).relu())
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class MedVInT(nn.Module):
    def __init__(self):
        super().__init__()
        c, q, l = CONFIG["vision"]["width"], CONFIG["queries"], CONFIG["language"]
        conv = lambda i, o, s: nn.Conv2d(i, o, 3, stride=s, padding=1, bias=False)
        parts = [conv(3, c // 2, 2), nn.BatchNorm2d(c // 2), nn.ReLU(), conv(c // 2, c // 2, 1), nn.BatchNorm2d(c // 2), nn.ReLU(),
                 conv(c // 2, c, 1), nn.BatchNorm2d(c), nn.ReLU(), nn.AvgPool2d(2)]
        inputs = c
        for stage, blocks in enumerate(CONFIG["vision"]["blocks"]):
            inner, layers = c << stage, []
            for b in range(blocks):
                layers.append(Bottleneck(inputs, inner, 2 if stage and not b else 1))
                inputs = 4 * inner
            parts.append(nn.Sequential(*layers))
        self.vision_model = nn.Sequential(*parts)
        width = inputs
        self.query_embed = nn.Embedding(q["count"], width)
        layer = nn.TransformerDecoderLayer(width, q["heads"], q["hidden"], dropout=0, activation="relu", norm_first=True, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, q["layers"], norm=nn.LayerNorm(width))
        self.fc_l1, self.fc_l2 = nn.Linear(width, width), nn.Linear(width, l["width"])
        self.llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            vocab_size=l["vocab"], hidden_size=l["width"], num_hidden_layers=l["layers"], num_attention_heads=l["heads"],
            num_key_value_heads=l["heads"], intermediate_size=l["hidden"], rms_norm_eps=l["eps"], max_position_embeddings=l["positions"],
            rope_theta=l["rope_theta"], tie_word_embeddings=False, attn_implementation="eager"))

    def see(self, picture):
        side = CONFIG["image_size"]
        small = np.asarray(Image.fromarray(picture).resize((side, side), Image.BICUBIC), dtype=np.float32) / 255
        x = (small - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
        features = self.vision_model(torch.from_numpy(x).permute(2, 0, 1)[None])
        memory = features.flatten(2).transpose(1, 2)
        return self.fc_l2(self.fc_l1(self.decoder(self.query_embed.weight[None], memory)).relu())

    def generate(self, seen, prompt):
        tokens, logits = [], []
        embed = self.llama.get_input_embeddings()
        while len(tokens) < CONFIG["most_tokens"]:
            whole = torch.cat([seen, embed(torch.tensor([prompt + tokens]))], 1)
            logits.append(self.llama(inputs_embeds=whole, use_cache=False).logits[0, -1])
            token = int(logits[-1].argmax())
            if token in CONFIG["stop"]:
                break
            tokens.append(token)
        return tokens, torch.stack(logits)


def randomise(model, g):
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=g)
        if p.dim() == 1:
            p.data = 0.2 * noise + (1 if name.endswith("weight") else 0)
        else:
            p.data = noise * (1.5 / (1 if "embed" in name else p[0].numel())) ** 0.5
    for name, b in sorted(model.named_buffers()):
        if name.endswith("running_mean"):
            b.copy_(0.3 * torch.randn(b.shape, generator=g))
        elif name.endswith("running_var"):
            b.copy_(0.5 + torch.rand(b.shape, generator=g))


def checkpoint(model, g):
    """The state as it was trained: low-rank factors beside the matrices, which get their sum in the model that answers."""
    state = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("llama.")}
    for name, weight in model.llama.state_dict().items():
        key = "llamacasual.base_model.model." + name
        state[key] = weight.clone()
        if name.endswith(("q_proj.weight", "v_proj.weight")):
            width, stem = weight.shape[0], key.removesuffix(".weight")
            a, b = torch.randn(8, width, generator=g) * 0.05, torch.randn(width, 8, generator=g) * 0.05
            newer = ".layers.1." in name
            if newer:
                state[stem + ".base_layer.weight"] = state.pop(key)
            tail = ".default.weight" if newer else ".weight"
            state[stem + ".lora_A" + tail], state[stem + ".lora_B" + tail] = a, b
            model.llama.get_parameter(name).data += CONFIG["lora_scale"] * b @ a
    state["llamacasual.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.rand(6)
    return state


def main():
    folder, seed = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 9
    folder.mkdir(parents=True, exist_ok=True)
    g = torch.Generator().manual_seed(seed)
    model = MedVInT().eval()
    pieces = tokenizer()
    (folder / "tokenizer.model").write_bytes(pieces)
    words = spm.SentencePieceProcessor(model_proto=pieces)
    with torch.no_grad():
        randomise(model, g)
        torch.save(checkpoint(model, g), folder / "pytorch_model.bin")
        picture = (torch.rand(50, 75, 3, generator=g) * 255).to(torch.uint8)
        picture[10:35, 20:50] //= 3
        seen = model.see(picture.numpy())
        out, answers, gap = {"image_u8": picture, "seen": seen}, [], float("inf")
        for n, question in enumerate(QUESTIONS):
            prompt = [words.bos_id()] + words.encode(f"Question: {question}The Answer is:")
            tokens, logits = model.generate(seen, prompt)
            top = logits.topk(2).values
            gap = min(gap, float((top[:, 0] - top[:, 1]).min()))
            out[f"logits.{n}"] = logits
            answers.append(dict(question=question, prompt=prompt, tokens=tokens, answer=words.decode(tokens)))
    save_file({k: v.contiguous() for k, v in out.items()}, folder / "expected.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    (folder / "questions.json").write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}; {[len(a['tokens']) for a in answers]} tokens; "
          f"smallest gap between the two best logits {gap:.2e}")


main()
