#!/usr/bin/env python3
"""Compare `volseg eval` with golden numbers of other libraries.

    check_metrics.py VOLSEG FIXTURES

FIXTURES has expected.json and cases/ (see its README). Opt-in: the project's own tests do not need it.
"""
import json, math, pathlib, subprocess, sys, tempfile

volseg, root = sys.argv[1], pathlib.Path(sys.argv[2])
golden = json.loads((root / "expected.json").read_text())
taus = ",".join(f"{t:g}" for t in golden["tolerances_mm"])
bad = checked = 0


def run(case, *more):
    with tempfile.TemporaryDirectory() as d:
        out = pathlib.Path(d) / "o.json"
        command = [volseg, "-q", "eval", "--gt", root / case["gt"], "--pred", root / case["pred"], "--json", out,
                   "--labels", ",".join(map(str, case["labels"])), *more]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            assert not out.exists()
            return done.returncode, done.stderr
        return 0, {str(l["id"]): l for l in json.loads(out.read_text())["cases"][0]["labels"]}


def value(v):
    if isinstance(v, str):
        return {"NaN": math.nan, "Infinity": math.inf, "inf": math.inf}.get(v)
    return math.nan if v is None else float(v)


def compare(where, found, expected, tolerance):
    global bad, checked
    e, f = value(expected), value(found)
    if e is None:
        return
    checked += 1
    same = (math.isnan(e) and math.isnan(f)) or e == f or abs(e - f) <= tolerance * max(abs(e), 1e-12)
    if not same:
        bad += 1
        print("DIFFERS", where, "found", found, "expected", expected)


for name, case in golden["cases"].items():
    if case.get("must_refuse"):
        code, text = run(case)
        checked += 1
        if code == 0:
            bad += 1
            print("ACCEPTED", name)
        continue
    skip = set(case.get("borderline", []))
    for source, tolerance, options in [
        ("overlap", 1e-6, []), ("counts", 0, []), ("deepmind", 1e-6, ["--preset", "deepmind"]),
        ("default", 1e-6, []), ("monai", 1e-5, ["--preset", "monai"]), ("medpy", 1e-6, ["--preset", "medpy"]),
        ("metrics_reloaded", 1e-6, ["--surface", "voxel"]),
    ]:
        code, got = run(case, *([] if source in ("flare",) else ["--tolerance", taus]), *options)
        if code:
            bad += 1
            print("FAILED", name, source, got)
            continue
        for label, expect in case["expect"].items():
            both = got[label]["status"] == "ok"
            ours = got[label]["metrics"]
            if source == "default":
                if both:
                    for key, e in expect["deepmind"].items():
                        compare(f"{name} {label} {key}", ours.get(key), e, 1e-6)
                continue
            if source == "metrics_reloaded" and not both:
                continue
            rename = {"jaccard": "iou", "ravd": "volume_rel_diff", "dice_ignore_empty": "dice"}
            for key, e in expect[source].items():
                if key in skip or key.startswith("nsd_subvoxel") or key in ("dice_keep_empty", "boundary_iou"):
                    continue
                if source == "monai" and key == "asd_pred_to_gt" and not both:
                    continue
                if source == "counts":
                    compare(f"{name} {label} {key}", got[label]["counts"][key], e, 0)
                else:
                    compare(f"{name} {label} {source} {key}", ours.get(rename.get(key, key)), e, tolerance)
    for preset, labels in case.get("presets", {}).items():
        code, got = run(case, "--preset", preset.replace("_", "-"))
        for label, expect in labels.items():
            for key, e in expect.items():
                compare(f"{name} preset {preset} {label} {key}", got[label]["metrics"].get(key) if code == 0 else code, e, 1e-6)

with tempfile.TemporaryDirectory() as d:
    d = pathlib.Path(d)
    (d / "gt").mkdir(); (d / "pred").mkdir()
    for name in golden["aggregates"]["cases"]:
        for k in ("gt", "pred"):
            (d / k / f"{name}.nii.gz").symlink_to((root / golden["cases"][name][k]).resolve())
    texts = []
    for threads in ("1", "2"):
        subprocess.run([volseg, "-q", "eval", "--gt", d / "gt", "--pred", d / "pred", "--json", d / "o.json", "--threads", threads], check=True)
        texts.append((d / "o.json").read_bytes())
    if texts[0] != texts[1]:
        bad += 1
        print("JSON differs at 1 and 2 threads")
    detail = json.loads(texts[0])["summary"]["metrics"]
    for key in ("dice", "nsd@1", "nsd@2"):
        a = golden["aggregates"][key]
        for ours, theirs in (("label_then_mean", "mean_of_label_means"), ("case_then_mean", "mean_of_case_means"), ("pooled", "pooled_mean")):
            compare(f"aggregate {key} {ours}", detail[key]["mean"][ours], a[theirs], 1e-6)
        compare(f"aggregate {key} n", detail[key]["n_expected"], a["n_pooled"], 0)
print(f"{checked} numbers checked, {bad} differ")
sys.exit(bad > 0)
