#!/usr/bin/env python3
"""Writes crates/volseg-train/tests/fixtures/dpo_small.json: Eqn 5 worked out in another way than the Rust code does.

Every likelihood is summed pixel by pixel and the gradient is taken by central differences, so the identities that the Rust
code uses are tested rather than repeated. No packages needed:  python3 scripts/parity/make_dpo_golden.py
"""
import json
import math
import random

THRESHOLDS = [0.3, 0.4, 0.5, 0.6]


def log_sigmoid(x):
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


def likelihood(mask, logits):
    return sum(log_sigmoid(z) if y else log_sigmoid(-z) for y, z in zip(mask, logits))


def ranking_weights(iou, b1, b2):
    order = sorted(range(4), key=lambda k: -iou[k])
    place = [b1, b2, -b2, -b1]
    out = [0.0] * 4
    for value in set(iou):
        covered = [n for n, k in enumerate(order) if iou[k] == value]
        for n in covered:
            out[order[n]] = sum(place[m] for m in covered) / len(covered)
    return order, out


def case(name, side, seed, b1, b2, flip, spread, valid_columns, contrast=0.6):
    draw = random.Random(seed)
    truth = [1 if (i % side - side / 2 + 0.5) ** 2 + (i // side - side / 2 + 0.5) ** 2 < (0.35 * side) ** 2 else 0
             for i in range(side * side)]
    ref = [round((2 * t - 1) * contrast + draw.gauss(0.0, spread), 3) for t in truth]
    logits = [round(r + draw.gauss(0.0, 0.2), 3) for r in ref]
    valid = [1 if i % side < valid_columns else 0 for i in range(side * side)]
    keep = [i for i in range(side * side) if valid[i]]
    masks = [[1 if 1.0 / (1.0 + math.exp(-r)) > t else 0 for r in ref] for t in THRESHOLDS]
    iou = []
    for m in masks:
        both = sum(m[i] & truth[i] for i in keep)
        either = sum(m[i] | truth[i] for i in keep)
        iou.append(both / either if either else 1.0)
    rating = [1 + (v >= 0.4) + (v >= 0.55) + (v > 0.7) for v in iou]
    order, ranking = ranking_weights(iou, b1, b2)
    best = [b1 if k == order[0] else 0.0 for k in range(4)]
    if flip:
        ranking[order[flip - 1]], ranking[order[flip]] = ranking[order[flip]], ranking[order[flip - 1]]
        order[flip - 1], order[flip] = order[flip], order[flip - 1]
        rating = [flip + 1 if r == flip else flip if r == flip + 1 else r for r in rating]
    by_rating = {4: b1, 3: b2, 2: -b2, 1: -b1}
    band = sum(len({m[i] for m in masks}) > 1 for i in keep)
    modes = {}
    for mode, weights in [("ranking", ranking), ("rating", [by_rating[r] for r in rating]), ("best", best)]:
        modes[mode] = {"weights": weights}
        for reduction, norm in [("sum", 1), ("mean", len(keep)), ("band_mean", max(band, 1))]:
            def margin(z):
                of = lambda v: [v[i] for i in keep]
                return sum(w * (likelihood(of(m), of(z)) - likelihood(of(m), of(ref)))
                           for w, m in zip(weights, masks)) / norm

            def loss(z):
                return -log_sigmoid(margin(z))

            grad = []
            for i in range(side * side):
                h = 1e-5
                up, down = list(logits), list(logits)
                up[i] += h
                down[i] -= h
                grad.append((loss(up) - loss(down)) / (2 * h))
            rows = lambda v: [v[r * side:(r + 1) * side] for r in range(side)]
            modes[mode][reduction] = {"norm": norm, "margin": margin(logits), "loss": loss(logits),
                                      "grad": [[round(g, 9) for g in r] for r in rows(grad)]}
    rows = lambda v: [v[r * side:(r + 1) * side] for r in range(side)]
    return {"name": name, "beta1": b1, "beta2": b2, "thresholds": THRESHOLDS, "flip": flip, "logits": rows(logits),
            "ref_logits": rows(ref), "gt": rows(truth), "valid": rows(valid), "iou": iou, "rating": rating,
            "candidates": [rows(m) for m in masks], "order_best_to_worst": order, "modes": modes}


CASES = [
    case("plain", 6, 1, 1.0, 0.5, None, 0.6, 6),
    case("other betas, padded", 6, 2, 1.5, 0.75, None, 0.5, 4),
    case("flip 2 and 3", 6, 3, 1.0, 0.5, 2, 0.7, 6),
    case("sure: all candidates equal", 4, 4, 1.0, 0.5, None, 0.0, 4, contrast=2.0),
]
# A reference that is sure of everything: the four masks are one.
sure = CASES[3]
assert len({json.dumps(m) for m in sure["candidates"]}) == 1
edges = [0.0, 0.399999, 0.4, 0.549999, 0.55, 0.7, 0.700001, 1.0]
out = {"rating_edge_cases": [{"iou": v, "rating": 1 + (v >= 0.4) + (v >= 0.55) + (v > 0.7)} for v in edges], "cases": CASES}
path = "crates/volseg-train/tests/fixtures/dpo_small.json"
with open(path, "w") as f:
    json.dump(out, f, separators=(",", ":"))
    f.write("\n")
print(path)
