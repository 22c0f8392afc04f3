#!/usr/bin/env python3
"""Reading against scoring: `volseg eval` over a folder of 20 gzipped cases, one program or several in turn.

    volseg phantom --modality ct --seed 900020 --size full -o full
    python3 scripts/measure/eval_folder.py full/labels.nii.gz CASES target/release/volseg [OTHER_VOLSEG ...]

CASES gets gt/ and pred/ if it has none yet: the label map moved by some voxels and mirrored in every second case, and a prediction
bent by smooth waves of a few voxels, as in benches/metrics. Needs numpy, nibabel, gzip and GNU time. Reading and scoring are wall seconds summed over
cases, as `volseg -v eval` logs them. The last rows are what the same files cost others who only read them.
"""
import gzip, pathlib, re, subprocess, sys
import numpy

labels, cases, programs = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
if not (cases / "pred").exists():
    stored = gzip.open(labels).read()
    dim = numpy.frombuffer(stored, "<i2", 8, 40)[3:0:-1]  # z, y, x
    head = stored[:len(stored) - int(numpy.prod(dim, dtype=int))]
    truth = numpy.frombuffer(stored, numpy.uint8, offset=len(head)).reshape(dim)
    z, y, x = numpy.ogrid[:dim[0], :dim[1], :dim[2]]
    for name in ("gt", "pred"):
        (cases / name).mkdir(parents=True)
    for n in range(20):
        wave = lambda a, b: numpy.rint(2.2 * numpy.sin(a / 23 + 0.7 * n) + 1.6 * numpy.cos(b / 31 + 1 + 0.7 * n)).astype(int)
        moved = numpy.roll(truth, (n % 5 - 2, 3 * n % 7 - 3, 5 * n % 11 - 5), (0, 1, 2))
        moved = numpy.ascontiguousarray(moved[:, :, ::-1] if n % 2 else moved)
        at = [numpy.clip(c + shift, 0, size - 1) for c, shift, size in
              ((z, wave(x, y) // 2, dim[0]), (y, wave(x, z * 3), dim[1]), (x, wave(y, z * 3), dim[2]))]
        for name, voxels in (("gt", moved), ("pred", moved[tuple(at)])):
            with gzip.open(cases / name / f"case{n:02}.nii.gz", "wb", 6) as file:
                file.write(head + voxels.tobytes())

print("| program | threads | CPU | wall | reading | scoring | peak memory |\n| --- | --- | --- | --- | --- | --- | --- |")
for threads in (1, 1, 1, 2, 2):
    for program in programs:
        command = ["/usr/bin/time", "-f", "%U %S %e %M", program, "-v", "eval", "--gt", cases / "gt", "--pred", cases / "pred",
                   "--tolerance", "2", "--threads", str(threads)]
        log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        user, system, wall, peak = map(float, log.strip().splitlines()[-1].split())
        reading, scoring = re.search(r"([\d.]+) s of reading, ([\d.]+) s of scoring", log).groups()
        print(f"| {program} | {threads} | {user + system:.2f} s | {wall:.2f} s | {reading} s | {scoring} s | {peak / 1024:.0f} MiB |")

read_all = "import nibabel, numpy, sys\nfor f in sys.argv[1:]: numpy.asarray(nibabel.load(f).dataobj)"
files = sorted(cases.glob("*/*.nii.gz"))
for name, command in (("`gzip -dc`, reading alone", ["gzip", "-dc", *files]), ("nibabel, reading alone", [sys.executable, "-c", read_all, *files])):
    for _ in range(3):
        timed = ["/usr/bin/time", "-f", "%U %S %e %M", *command]
        log = subprocess.run(timed, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True).stderr
        user, system, wall, peak = map(float, log.strip().splitlines()[-1].split())
        print(f"| {name} | 1 | {user + system:.2f} s | {wall:.2f} s | | | {peak / 1024:.0f} MiB |")
