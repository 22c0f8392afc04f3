#!/usr/bin/env python3
"""Time volseg, surface-distance, MONAI and SimpleITK on one pair of label maps, one after the other, in one run.

    cargo bench --workspace --bench metrics -- dump=/tmp/pair
    pip install numpy nibabel surface-distance monai torch SimpleITK
    metrics_peers.py target/release/volseg /tmp/pair [RUNS]

Dice + NSD@2 mm + HD95 of every label. The peers are used as each documents it: one boolean mask of the whole volume per label. Each run is
a process of its own; the least of RUNS (3) counts, MONAI and SimpleITK run once. volseg's times are the whole command, start and reading
included; those of the peers begin when the volumes are in memory and everything is imported. Prints the table of docs/benchmarks.md.
"""
import importlib.metadata, json, os, pathlib, platform, resource, subprocess, sys, time

SPACING_TAU = 2.0


def surface_distance(gt, pred, spacing, labels):
    import numpy as np
    np.Inf, np.NaN = np.inf, np.nan  # names that numpy 2 dropped
    import surface_distance as sd
    for label in labels:
        g, p = gt == label, pred == label
        d = sd.compute_surface_distances(g, p, spacing)
        yield sd.compute_dice_coefficient(g, p), sd.compute_surface_dice_at_tolerance(d, SPACING_TAU), sd.compute_robust_hausdorff(d, 95)


def monai(gt, pred, spacing, labels):
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
    for label in labels:
        g, p = (torch.from_numpy(v == label)[None, None] for v in (gt, pred))
        nsd = compute_surface_dice(p, g, [SPACING_TAU], include_background=True, spacing=spacing)
        hd = compute_hausdorff_distance(p, g, include_background=True, percentile=95, spacing=spacing)
        yield compute_dice(p.float(), g.float()).item(), nsd.item(), hd.item()


def simpleitk(gt, pred, spacing, labels):
    import SimpleITK as sitk
    a, b = (sitk.GetImageFromArray(v.T) for v in (gt, pred))
    for i in (a, b):
        i.SetSpacing(spacing)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(a, b)
    for label in labels:
        h = sitk.HausdorffDistanceImageFilter()
        h.Execute(a == label, b == label)
        yield overlap.GetDiceCoefficient(label), None, h.GetHausdorffDistance()


PEERS = {"surface-distance": surface_distance, "monai": monai, "SimpleITK": simpleitk}
IMPORTS = {"surface-distance": "surface_distance", "monai": "monai.metrics", "SimpleITK": "SimpleITK"}


def child(name, folder):
    """One run of a peer: prints wall, CPU and mean Dice as JSON."""
    import nibabel, numpy as np
    np.Inf, np.NaN = np.inf, np.nan
    importlib.import_module(IMPORTS[name])
    images = [nibabel.load(folder / f"{k}.nii") for k in ("gt", "pred")]
    gt, pred = (np.asarray(i.dataobj).copy() for i in images)
    spacing = [float(z) for z in images[0].header.get_zooms()]
    labels = [int(v) for v in np.unique(gt) if v]
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    scores = list(PEERS[name](gt, pred, spacing, labels))
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    dice = sum(s[0] for s in scores) / len(scores)
    print(json.dumps({"wall": wall, "cpu": cpu, "labels": len(labels), "dice": dice, "mib": after.ru_maxrss / 1024}))


def run(command):
    """Wall, CPU and peak memory of a process, and what it printed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    text = process.stdout.read()
    _, status, use = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.perf_counter() - start, use.ru_utime + use.ru_stime, use.ru_maxrss / 1024, text


def main():
    volseg, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    print(f"{os.cpu_count()} x {model}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, numpy {importlib.metadata.version('numpy')}\n")
    print("| tool | labels | threads | wall | CPU | peak memory | mean Dice |\n| --- | --- | --- | --- | --- | --- | --- |")
    version = subprocess.run([volseg, "--version"], capture_output=True, text=True).stdout.split()[1]
    for threads in (1, 2):
        out = folder / "eval.json"
        command = [volseg, "-q", "eval", "--gt", folder / "gt.nii", "--pred", folder / "pred.nii", "--tolerance", "2", "--json", out, "--threads", str(threads)]
        seen = [run(command) for _ in range(3 * runs)]
        result = json.loads(out.read_text())
        wall, cpu, mib = (min(s[n] for s in seen) for n in range(3))
        labels = [l for l in result["cases"][0]["labels"] if l["counts"]["n_gt"]]
        dice = sum(l["metrics"]["dice"] for l in labels) / len(labels)
        print(f"| volseg {version}, whole command | {len(labels)} | {threads} | {wall:.2f} s | {cpu:.2f} s | {mib:.0f} MiB | {dice:.4f} |", flush=True)
    for name in PEERS:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        seen = [json.loads(run([sys.executable, __file__, "--child", name, folder])[3]) for _ in range(runs if name == "surface-distance" else 1)]
        best = {k: min(s[k] for s in seen) for k in seen[0]}
        print(f"| {name} {version} | {best['labels']} | as it likes | {best['wall']:.2f} s | {best['cpu']:.2f} s | {best['mib']:.0f} MiB | {best['dice']:.4f} |", flush=True)


if len(sys.argv) > 1 and sys.argv[1] == "--child":
    child(sys.argv[2], pathlib.Path(sys.argv[3]))
else:
    main()
