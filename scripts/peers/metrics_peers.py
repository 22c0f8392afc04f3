#!/usr/bin/env python3
"""Time surface-distance, MONAI and SimpleITK (those installed) on the pair that the bench dumps.

    cargo bench -p volseg-benches --bench metrics -- dump=/tmp/pair
    metrics_peers.py /tmp/pair [LABELS]

Used as each documents it: whole-volume boolean masks per label, Dice + NSD@2 + HD95. Prints rows of docs/benchmarks.md.
"""
import importlib.metadata, pathlib, platform, resource, sys, time
import numpy as np

folder = pathlib.Path(sys.argv[1])
labels = int(sys.argv[2]) if len(sys.argv) > 2 else 15
shape, spacing = (150, 512, 512), (2.0, 0.75, 0.75)
gt, pred = (np.fromfile(folder / f"{k}.raw", np.uint8).reshape(shape) for k in ("gt", "pred"))


def surface_distance():
    import surface_distance as sd
    if not hasattr(np, "Inf"):
        np.Inf, np.NaN = np.inf, np.nan
    out = []
    for l in range(1, labels + 1):
        g, p = gt == l, pred == l
        d = sd.compute_surface_distances(g, p, spacing)
        out.append((sd.compute_dice_coefficient(g, p), sd.compute_surface_dice_at_tolerance(d, 2.0), sd.compute_robust_hausdorff(d, 95)))
    return out


def simpleitk():
    import SimpleITK as sitk
    a, b = (sitk.GetImageFromArray(v) for v in (gt, pred))
    for i in (a, b):
        i.SetSpacing(spacing[::-1])
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(a, b)
    out = []
    for l in range(1, labels + 1):
        h = sitk.HausdorffDistanceImageFilter()
        h.Execute(a == l, b == l)
        out.append((overlap.GetDiceCoefficient(l), None, h.GetHausdorffDistance()))
    return out


def monai():
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
    out = []
    for l in range(1, labels + 1):
        g, p = (torch.from_numpy(v == l)[None, None] for v in (gt, pred))
        out.append((compute_dice(p.float(), g.float()).item(), compute_surface_dice(p, g, [2.0], include_background=True, spacing=spacing).item(),
                    compute_hausdorff_distance(p, g, include_background=True, percentile=95, spacing=spacing).item()))
    return out


print(f"python {platform.python_version()}, numpy {np.__version__}")
for name, run in (("surface-distance", surface_distance), ("monai", monai), ("SimpleITK", simpleitk)):
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        continue
    use = resource.getrusage(resource.RUSAGE_SELF)
    start, cpu = time.perf_counter(), use.ru_utime + use.ru_stime
    out = run()
    use = resource.getrusage(resource.RUSAGE_SELF)
    print(f"| {name} {version} | {labels} | {time.perf_counter() - start:.2f} s | {use.ru_utime + use.ru_stime - cpu:.2f} s | {use.ru_maxrss / 1024:.0f} MiB | mean Dice {np.mean([o[0] for o in out]):.4f}")
