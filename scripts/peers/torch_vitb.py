#!/usr/bin/env python3
"""volseg and torch (f32, CPU) on the same ViT-B with adapters, same weights, in the same minutes.

torch_vitb.py FOLDER BINARY [ROUNDS]: FOLDER as scripts/parity/full_size.py leaves it, with model.safetensors imported from model.pth;
BINARY is target/release/examples/sam_full_size. Rounds alternate; the least time of all rounds counts, as other jobs only add.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parity"))
import torch
import sam_torch as st

# As the program sets them for itself when it starts.
MALLOC = {"CANDLE_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}


def least(f, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def torch_round(model, threads):
    torch.set_num_threads(threads)
    x = torch.randn(8, 3, 256, 256)
    boxes = torch.tensor([[10.0 + 5 * n, 20, 120 + 8 * n, 200] for n in range(15)])
    with torch.inference_mode():
        image = model.image_encoder(x[:1])
        one = least(lambda: model.image_encoder(x[:1]), 3)
        eight = least(lambda: model.image_encoder(x), 2) / 8
        decoder = least(lambda: model.decode(image, boxes=boxes), 6)
        m, k, n = 2048, 768, 3072
        a, b = torch.randn(m, k), torch.randn(k, n)
        gemm = 2e-6 * m * k * n / least(lambda: a @ b, 10)
    return {"threads": threads, "encoder_one_ms": one, "encoder_ms": eight, "decoder_15_ms": decoder, "gemm_gflops": gemm}


def main():
    folder, binary = Path(sys.argv[1]), sys.argv[2]
    model = st.Sam({})
    model.load_state_dict(torch.load(folder / "model.pth", weights_only=False)["model"])
    model.eval()
    found = {}
    for _ in range(int(sys.argv[3]) if len(sys.argv) > 3 else 3):
        env = {**os.environ, **MALLOC}
        out = subprocess.run([binary, "bench", folder / "model.safetensors", "2"], env=env, capture_output=True, text=True, check=True)
        for line in out.stdout.splitlines():
            found.setdefault(("volseg", json.loads(line)["threads"]), []).append(json.loads(line))
        for threads in (1, 2):
            found.setdefault(("torch", threads), []).append(torch_round(model, threads))
        print({k: v[-1] for k, v in found.items()}, "load average", os.getloadavg()[0], file=sys.stderr, flush=True)
    print(f"torch {torch.__version__}, f32; load average {os.getloadavg()[0]:.1f}")
    print("| | threads | encoder, one slice, ms | encoder, many slices, ms a slice | decoder, 15 boxes, ms | gemm 2048x768x3072, GFLOP/s |")
    print("|---|---|---|---|---|---|")
    for (who, threads), runs in sorted(found.items()):
        best = {k: (max if "gflops" in k else min)(r[k] for r in runs) for k in runs[0]}
        print(f"| {who} | {threads} | {best['encoder_one_ms']:.0f} | {best['encoder_ms']:.0f} | {best['decoder_15_ms']:.0f} | {best.get('gemm_gflops', 0):.0f} |")


main()
