#!/usr/bin/env python3
"""torch's times for ViT-B with adapters on a GPU: what scripts/cuda/check.sh sets beside volseg's.

torch_gpu.py FOLDER: FOLDER as scripts/parity/full_size.py leaves it. Prints a JSON line for each way of running the same module. The
least of 30 repeats counts, each ended by waiting for the GPU.
"""

import copy
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parity"))
import torch
import sam_torch as st


def least(f, repeats=30):
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        f()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def main():
    model = st.Sam({})
    model.load_state_dict(torch.load(Path(sys.argv[1]) / "model.pth", weights_only=False)["model"])
    model.eval().cuda()
    boxes = torch.tensor([[10.0 + 5 * n, 20, 120 + 8 * n, 200] for n in range(15)]).cuda()
    print(f"torch {torch.__version__} on {torch.cuda.get_device_name()}", file=sys.stderr)
    for name in ("f32", "tf32", "bf16", "bf16 compiled"):
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = name == "tf32"
        dtype = torch.bfloat16 if name.startswith("bf16") else torch.float32
        encoder = copy.deepcopy(model.image_encoder).to(dtype)
        if name.endswith("compiled"):
            encoder = torch.compile(encoder)
        found = {"torch": name}
        with torch.inference_mode():
            for n in (1, 8, 16):
                x = torch.randn(n, 3, 256, 256, device="cuda", dtype=dtype)
                found[f"encoder_{n}_ms"] = round(least(lambda: encoder(x)) / n, 3)
            if name == "f32":
                image = encoder(torch.randn(1, 3, 256, 256, device="cuda"))
                found["decoder_15_ms"] = round(least(lambda: model.decode(image, boxes=boxes)), 3)
        print(json.dumps(found), flush=True)


main()
