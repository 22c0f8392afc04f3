#!/usr/bin/env python3
"""`volseg segment` by organ name and by `--prompts chain` on the same pictures: Dice and seconds. Needs numpy, pillow.

    python3 scripts/evaluate/chain.py --volseg target/release/volseg --data BUSI_DIR --organ breast_tumor --modality ultrasound --split OUT_DIR/split.json
"""
import argparse, json, pathlib, subprocess, sys, tempfile, time
import numpy
from PIL import Image

p = argparse.ArgumentParser()
p.add_argument("--volseg", default="target/release/volseg")
p.add_argument("--data", type=pathlib.Path, required=True)
p.add_argument("--organ", required=True)
p.add_argument("--modality", required=True)
p.add_argument("--split", type=pathlib.Path, required=True)
p.add_argument("--chain", default="chain", help="chain or chain:FILE")
p.add_argument("--limit", type=int)
a = p.parse_args()
parts = json.loads(a.split.read_text())[a.organ]
rows = {"organ": [], a.chain: [], "between": []}
seconds = {"organ": 0.0, a.chain: 0.0}
with tempfile.TemporaryDirectory() as tmp:
    names = [n for n in sorted(parts) if parts[n] == "Test" and numpy.asarray(Image.open(a.data / "masks" / f"{n}.png")).any()]
    for name in names[: a.limit]:
        masks = {"truth": numpy.asarray(Image.open(a.data / "masks" / f"{name}.png").convert("L")) > 0}
        for mode in seconds:
            out, start = pathlib.Path(tmp) / "m.png", time.perf_counter()
            done = subprocess.run([a.volseg, "segment", a.data / "images" / f"{name}.png", "-o", out, "--modality", a.modality, "--organs", a.organ,
                                   "--prompts", mode, "--quiet"], capture_output=True, text=True, env={"XDG_CACHE_HOME": tmp, "PATH": "/bin"})
            if done.returncode:
                sys.exit(f"{name}: {done.stderr}")
            seconds[mode] += time.perf_counter() - start
            masks[mode] = numpy.asarray(Image.open(out)) > 0
        dice = lambda x, y: 2 * (x & y).sum() / max(1, x.sum() + y.sum())
        for mode in seconds:
            rows[mode].append(dice(masks["truth"], masks[mode]))
        rows["between"].append(dice(masks["organ"], masks[a.chain]))
n = len(rows["organ"])
print(json.dumps({"organ": a.organ, "pictures": n, "dice": {k: round(float(numpy.mean(v)), 3) for k, v in rows.items()},
                  "seconds_a_picture": {k: round(v / n, 2) for k, v in seconds.items()}}))
