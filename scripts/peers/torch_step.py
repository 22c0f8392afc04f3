#!/usr/bin/env python3
"""A training step of an image encoder: volseg beside torch, one thread each, in turn, CPU seconds of forward, backward and AdamW.

    cargo build --release --workspace --examples
    python3 scripts/peers/torch_step.py target/release/examples/time_step [ROUNDS]

`small` is 192 wide with 6 blocks, batch 4; `vit-b` batch 1; both 256 x 256 without adapters. `frozen` keeps the weights of the blocks' linear
maps in both. The least of all rounds counts, peak memory is that of a process. Needs torch.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

CASES = [("small", "all"), ("small", "frozen"), ("vit-b", "all"), ("vit-b", "frozen")]
# As the program sets them for itself when it starts.
MALLOC = {"CANDLE_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}


def torch_step(size, kind, steps):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parity"))
    import torch
    import sam_torch as st

    torch.set_num_threads(1)
    small = dict(encoder_embed_dim=192, encoder_depth=6, encoder_num_heads=3, global_attn_indexes=[2, 5])
    encoder = st.Encoder({**st.DEFAULTS, "encoder_adapter": False, **(small if size == "small" else {})})
    for name, p in encoder.named_parameters():
        if kind == "frozen" and name.endswith(("qkv.weight", "attn.proj.weight", "lin1.weight", "lin2.weight")):
            p.requires_grad_(False)
    trained = [p for p in encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.05)
    x = torch.randn(4 if size == "small" else 1, 3, 256, 256)

    def step():
        optimizer.zero_grad()
        encoder(x).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    step()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    cpu, wall = (time.process_time() - cpu) / steps, (time.perf_counter() - wall) / steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    trained = sum(p.numel() for p in trained)
    print(json.dumps({"tool": f"torch {torch.__version__}", "cpu_s": cpu, "wall_s": wall, "peak_mib": peak, "trained": trained}))


def main():
    if sys.argv[1] == "torch":
        torch_step(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    print("| encoder | trained | volseg, CPU s | torch, CPU s | ratio | volseg, peak MiB | torch, peak MiB |")
    print("|---|---|---|---|---|---|---|")
    for size, kind in CASES:
        steps, best = "8" if size == "small" else "3", {}
        for _ in range(rounds):
            for who, command in (("ours", [sys.argv[1], size, kind, steps]), ("torch", [sys.executable, __file__, "torch", size, kind, steps])):
                out = json.loads(subprocess.run(command, env={**os.environ, **MALLOC}, capture_output=True, text=True, check=True).stdout)
                best[who] = min(best.get(who, out), out, key=lambda o: o["cpu_s"])
        a, b = best["ours"], best["torch"]
        assert a["trained"] == b["trained"], (a, b)
        print(f"| {size} | {kind}, {a['trained'] / 1e6:.1f} M | {a['cpu_s']:.2f} | {b['cpu_s']:.2f} | {a['cpu_s'] / b['cpu_s']:.2f} |"
              f" {a['peak_mib']} | {b['peak_mib']} |", flush=True)
    print(f"{b['tool']}, load average {os.getloadavg()[0]:.1f}")


main()
