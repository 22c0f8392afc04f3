#!/usr/bin/env python3
"""The table of a cross-validation: mean Dice of every fold's test part, and over all pictures with a 95 % interval.

    python3 scripts/evaluate/folds.py OUT_DIR

OUT_DIR holds fold0, fold1, ..., each with split.json and ORGAN-MODE.json as `pictures.py --scores` writes them. Checks that the
folds' test parts are disjoint and, if all are there, that they are the whole set. The interval is over pictures (2,000 resamples,
seed 0); it does not hold what another training would change.
"""
import json, pathlib, random, re, statistics, sys

out = pathlib.Path(sys.argv[1])
folds = sorted(out.glob("fold[0-9]*"), key=lambda f: int(f.name[4:]))
config = (folds[0] / "folds.toml").read_text()
of = int(re.search(r"folds = (\d+)", config).group(1))
tables = sorted({f.stem for fold in folds for f in fold.glob("*-*.json")})
names = [f.name for f in folds]
print("| organ and prompt | " + " | ".join(names) + " | all pictures, 95 % interval | below 0.5 | empty pictures left empty |")
print("|---|" + "---|" * (len(names) + 3))
for table in tables:
    organ = table.rsplit("-", 1)[0]
    cells, scores, empty, right, tested, whole = [], {}, 0, 0, set(), set()
    for fold in folds:
        parts = json.loads((fold / "split.json").read_text())[organ]
        test = {n for n, p in parts.items() if p == "Test"}
        if test & tested:
            sys.exit(f"{fold}: {len(test & tested)} pictures are in the test part of another fold as well")
        tested |= test
        whole |= set(parts)
        file = fold / f"{table}.json"
        if not file.exists():
            cells.append("-")
            continue
        found = json.loads(file.read_text())
        if not set(found["dice"]) <= test:
            sys.exit(f"{file}: scores of pictures that are not in the test part")
        cells.append(f"{statistics.mean(found['dice'].values()):.3f} ({len(found['dice'])})")
        scores.update(found["dice"])
        empty, right = empty + found["empty"], right + found["nothing_found"]
    if len(folds) == of and tested != whole:
        sys.exit(f"{organ}: {len(whole - tested)} pictures are in no test part")
    values = [scores[n] for n in sorted(scores)]
    rng = random.Random(0)
    means = sorted(statistics.mean(rng.choices(values, k=len(values))) for _ in range(2000))
    print(f"| {organ}, {table.rsplit('-', 1)[1]} | " + " | ".join(cells) +
          f" | {statistics.mean(values):.4f} ({means[50]:.4f} to {means[1949]:.4f}), n = {len(values)} |"
          f" {sum(v < 0.5 for v in values)} | {right} of {empty} |")
