#!/usr/bin/env python3
"""BiomedCLIP in its full size with random weights: open_clip's own model against volseg, through the official file.

    cargo build --release -p volseg-cli; cargo build --release -p volseg-model --example clip
    python3 scripts/parity/clip_full_size.py FOLDER target/release/volseg target/release/examples/clip vocab.txt [SEED]

The model is open_clip's CustomTextCLIP over timm and transformers, of the sizes that the published open_clip_config.json names; its
state dict goes into FOLDER/open_clip_pytorch_model.bin (784 MB) with the `position_ids` that the released file has. The picture is
prepared by torchvision and Pillow, texts are cut by transformers' BertTokenizer from the same vocab.txt. Needs open_clip_torch, timm,
transformers, safetensors, pillow from PyPI.
"""
import json, resource, subprocess, sys, time
from pathlib import Path

import numpy as np
import open_clip, timm, torch, transformers
from open_clip.transform import image_transform
from PIL import Image
from safetensors.torch import save_file

folder, volseg, example, vocabulary = Path(sys.argv[1]), *sys.argv[2:5]
seed = int(sys.argv[5]) if len(sys.argv) > 5 else 5
folder.mkdir(parents=True, exist_ok=True)
TEXTS = ["liver", "Chest X-Ray", "left kidney in an abdominal CT scan", "an irregular, dark mass with blurred margins",
         "The liver is the largest solid abdominal organ, a homogeneous wedge filling the right upper abdomen under the diaphragm."]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

# The published configuration names a text tower on the hub; here its sizes stand in a folder.
bert = folder / "bert"
bert.mkdir(exist_ok=True)
(bert / "config.json").write_text(json.dumps(transformers.BertConfig(vocab_size=30522).to_dict()))
torch.manual_seed(seed)
model = open_clip.CustomTextCLIP(
    embed_dim=512,
    vision_cfg={"timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
                "image_size": 224},
    text_cfg={"hf_model_name": str(bert), "hf_model_pretrained": False, "hf_proj_type": "mlp",
              "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 256}).eval()
with torch.no_grad():
    for p in model.parameters():
        p += 0.01 * torch.randn_like(p)
    model.logit_scale.fill_(4.4454)
state = {**model.state_dict(), "text.transformer.embeddings.position_ids": torch.arange(512)[None]}
torch.save(state, folder / "open_clip_pytorch_model.bin")
print(f"{len(state)} tensors, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M numbers; open_clip {open_clip.__version__}, "
      f"timm {timm.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")

y, x = np.mgrid[0:301, 0:452]
noise = np.random.default_rng(seed).normal(0, 14, (301, 452, 3))
rgb = np.clip(np.stack([120 + 90 * np.sin(x / (23 + 5 * c) + c) * np.cos(y / (31 - 7 * c)) for c in range(3)], -1) + noise, 0, 255).astype(np.uint8)
save_file({"raw_rgb_u8": torch.from_numpy(rgb)}, folder / "picture.safetensors")
prepared = image_transform(224, is_train=False, mean=MEAN, std=STD)(Image.fromarray(rgb))[None]
tokenizer = transformers.BertTokenizerFast(
    vocab={w: n for n, w in enumerate(Path(vocabulary).read_text().split("\n")[:-1])}, do_lower_case=True)
tokens = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=256, return_tensors="pt").input_ids
with torch.no_grad():
    start = time.perf_counter()
    image = model.encode_image(prepared, normalize=True)
    torch_image = time.perf_counter() - start
    text = model.encode_text(tokens, normalize=True)

start = time.perf_counter()
subprocess.run([volseg, "weights", "import", folder / "open_clip_pytorch_model.bin", "-o", folder / "model.safetensors", "--vocab", vocabulary],
               check=True)
print(f"imported in {time.perf_counter() - start:.1f} s, {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10} MiB")
ours = json.loads(subprocess.run([example, "features", folder / "model.safetensors", folder / "picture.safetensors"], input=json.dumps(TEXTS),
                                 capture_output=True, text=True, check=True).stdout)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
theirs = [[t for t in row if t] for row in tokens.tolist()]
off = {
    "prepared picture (allowed 0.02)": np.abs(np.array(ours["input"]) - prepared.numpy().ravel()).max(),
    "image features (allowed 1e-4)": np.abs(np.array(ours["image_features"]) - image.numpy()).max(),
    "text features (allowed 1e-4)": np.abs(np.array(ours["text_features"]) - text.numpy()).max(),
    "logits (allowed 1e-2)": np.abs(ours["scale"] * np.array(ours["image_features"]) @ np.array(ours["text_features"]).T
                                    - (model.logit_scale.exp() * image @ text.T).detach().numpy()).max(),
}
print("token ids the same:", ours["token_ids"] == theirs)
for what, value in off.items():
    print(f"{what}: off by {value:.1e}")
print("seconds:", {k: round(v, 2) for k, v in ours["seconds"].items()}, f"torch for the picture {torch_image:.2f}; largest process {used.ru_maxrss >> 10} MiB")
limits = [0.02, 1e-4, 1e-4, 1e-2]
sys.exit(ours["token_ids"] != theirs or any(v > limit for v, limit in zip(off.values(), limits)))
