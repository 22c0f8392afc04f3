#!/usr/bin/env python3
"""Boxes of `volseg prompt` on one part of a picture set (images/, masks/), beside the location prior: the mean box of the masks of
the training part, in shares of the picture. Pictures with an empty mask are left out.

    python3 scripts/evaluate/prompts.py --volseg target/release/volseg --data ../shared/data/busi --organ breast_tumor \
        --modality ultrasound --split run/split.json --part Test

Any further arguments go to `volseg prompt` (`--method gradcam`, `--source FILE` ...). `hit`: a pixel of the prompt's mask lies in the
organ; `mostly_inside`: half of them do (by 200 points drawn from the mask). Needs numpy and Pillow.
"""
import argparse, json, pathlib, subprocess, sys, tempfile, time
import numpy
from PIL import Image


def box_of(mask):
    ys, xs = numpy.nonzero(mask)
    return numpy.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], float)


def iou(a, b):
    side = lambda n: max(0.0, min(a[n + 2], b[n + 2]) - max(a[n], b[n]))
    area = lambda c: (c[2] - c[0]) * (c[3] - c[1])
    both = side(0) * side(1)
    return both / (area(a) + area(b) - both)


def interval(values, seed=0):
    random = numpy.random.default_rng(seed)
    means = [numpy.mean(random.choice(values, len(values))) for _ in range(2000)]
    return [round(float(v), 3) for v in numpy.quantile(means, [0.025, 0.975])]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--volseg", default="target/release/volseg")
    p.add_argument("--data", type=pathlib.Path, required=True)
    p.add_argument("--organ", required=True)
    p.add_argument("--modality", required=True)
    p.add_argument("--split", type=pathlib.Path, required=True)
    p.add_argument("--part", default="Test")
    p.add_argument("--limit", type=int)
    a, rest = p.parse_known_args()

    parts = json.loads(a.split.read_text())[a.organ]
    def cases(part):
        for name in sorted(n for n, q in parts.items() if q == part):
            mask = numpy.asarray(Image.open(a.data / "masks" / f"{name}.png").convert("L")) > 0
            if mask.any():
                yield name, mask
    scale = lambda m: numpy.array([m.shape[1], m.shape[0]] * 2, float)
    prior = numpy.mean([box_of(m) / scale(m) for _, m in cases("Train")], axis=0)

    rows, start, fallbacks = [], time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as tmp:
        out = pathlib.Path(tmp) / "prompts.json"
        for name, mask in list(cases(a.part))[: a.limit]:
            command = [a.volseg, "prompt", str(a.data / "images" / f"{name}.png"), "-o", str(out), "--organs", a.organ,
                       "--modality", a.modality, "--points", "200", "--no-cache", "--quiet", *rest]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"{name}: exit {done.returncode}: {done.stderr}")
            prompt = json.loads(out.read_text())["prompts"][0]
            kind = prompt["trace"]["fallback"]
            fallbacks[kind] = fallbacks.get(kind, 0) + 1
            inside = numpy.mean([mask[int(y), int(x)] for x, y, _ in prompt["points"]])
            truth = box_of(mask)
            rows.append((iou(prompt["box"], truth), iou(prior * scale(mask), truth), inside > 0, inside >= 0.5))
    chain, location, hit, mostly = numpy.array(rows, float).T
    print(json.dumps({
        "organ": a.organ, "part": a.part, "pictures": len(rows), "arguments": rest,
        "box_iou": round(chain.mean(), 3), "box_iou_95": interval(chain), "box_iou_median": round(float(numpy.median(chain)), 3),
        "prior_iou": round(location.mean(), 3), "gain_95": interval(chain - location), "better_than_prior": round(float((chain > location).mean()), 3),
        "hit": round(hit.mean(), 3), "mostly_inside": round(mostly.mean(), 3), "masks_by_fallback": fallbacks,
        "seconds_a_picture": round((time.perf_counter() - start) / max(1, len(rows)), 2),
    }, indent=1))


main()
