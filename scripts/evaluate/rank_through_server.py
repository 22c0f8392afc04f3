#!/usr/bin/env python3
"""Plays the person of a ranking session: asks `volseg serve` for uncertain slices and ranks candidates by Dice with true labels.

    volseg convert truth.nii.gz -o truth.nrrd
    scripts/evaluate/rank_through_server.py --server http://127.0.0.1:8000 --image case_a --labels truth.nrrd --organ pancreas --slices 10

Standard library only. Ranking by thresholds on axial slices; ties stay ties.
"""
import argparse
import gzip
import json
import urllib.request


def read_nrrd(path):
    """Sizes and bytes of an 8-bit NRRD, raw or gzip."""
    with open(path, "rb") as file:
        head, data = file.read().split(b"\n\n", 1)
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    if fields["encoding"] not in ("raw", "gzip") or fields["type"] not in ("uint8", "unsigned char", "uchar"):
        raise SystemExit("--labels is no 8-bit NRRD")
    if fields["encoding"] == "gzip":
        data = gzip.decompress(data)
    return [int(n) for n in fields["sizes"].split()], data


def decode(text, pixels):
    """Pixels (column by column) of COCO's compact run-length text."""
    runs, at = [], 0
    while at < len(text):
        value = shift = 0
        more = True
        while more:
            bits = ord(text[at]) - 48
            at += 1
            more = bool(bits & 32)
            value |= (bits & 31) << shift
            shift += 5
            if not more and bits & 16:
                value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    out, place = set(), 0
    for n, run in enumerate(runs):
        if n % 2:
            out.update(range(place, min(place + run, pixels)))
        place += run
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--organ", required=True)
    parser.add_argument("--slices", type=int, default=10)
    given = parser.parse_args()

    def call(method, path, value=None):
        data = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(given.server + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    (w, h, _), labels = read_nrrd(given.labels)
    about = call("GET", f"/volseg/image?image={given.image}&plane=axial")
    if about["axes"] != [0, 1, 2]:
        raise SystemExit("the image is not stored slice by slice")
    value = None
    ranked = looked = 0
    while ranked < given.slices and looked < 5 * given.slices:
        looked += 1
        spot = call("GET", f"/volseg/next?by=uncertainty&image={given.image}&organ={given.organ}")
        if not spot:
            break
        judged = call("POST", "/volseg/candidates", {k: spot[k] for k in ("image", "plane", "slice", "organ")})
        if value is None:
            value = about["organs"].index(given.organ) + 1
        start = spot["slice"] * w * h
        truth = {x * h + y for y in range(h) for x in range(w) if labels[start + y * w + x] == value}
        masks = [decode(c["rle"], w * h) for c in judged["candidates"]]
        dice = [round(2 * len(m & truth) / max(len(m) + len(truth), 1), 6) for m in masks]
        judged["ranks"] = [1 + sum(other > d for other in dice) for d in dice]
        # Without the organ on the slice nothing can be told.
        judged.update(rater="script", skipped=not truth)
        call("POST", "/volseg/preferences", judged)
        ranked += bool(truth)
        print(f"{looked}: slice {spot['slice']}, {given.organ}, Dice {dice}, ranks {judged['ranks']}{'' if truth else ', skipped'}")


if __name__ == "__main__":
    main()
