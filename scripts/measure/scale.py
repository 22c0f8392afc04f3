#!/usr/bin/env python3
"""Cost of a series by slices and organs: CPU seconds, wall seconds and memory of `volseg batch run` on phantoms of 50, 150 and 450 slices.

    scripts/measure/scale.py target/release/volseg [THREADS]

CPU seconds hold on a busy machine too; wall seconds do not. Python's standard library is enough.
"""

import gzip
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

VOLSEG = os.path.abspath(sys.argv[1])
THREADS = sys.argv[2] if len(sys.argv) > 2 else "1"
ORGANS = ["liver", "liver,spleen,right_kidney,left_kidney", ""]


def cut(source, target, slices):
    """So many slices of a NIfTI-1 file: from its middle, or all of them back and forth."""
    data = gzip.open(source).read()
    dim = struct.unpack_from("<8h", data, 40)
    bits = struct.unpack_from("<h", data, 72)[0]
    offset = int(struct.unpack_from("<f", data, 108)[0])
    header = bytearray(data[:offset])
    struct.pack_into("<h", header, 46, slices)
    size = dim[1] * dim[2] * bits // 8
    n = dim[3]
    first = max(0, (n - slices) // 2)
    there_and_back = [*range(n), *reversed(range(n))]
    with gzip.open(target, "wb", compresslevel=1) as out:
        out.write(header)
        for k in (there_and_back[(first + i) % (2 * n)] for i in range(slices)):
            out.write(data[offset + k * size : offset + (k + 1) * size])


def run(*args):
    """CPU seconds, wall seconds, MiB at most, exit code."""
    began = time.time()
    pid = subprocess.Popen([VOLSEG, *args, "--quiet"]).pid
    _, status, used = os.wait4(pid, 0)
    return used.ru_utime + used.ru_stime, time.time() - began, used.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def disk(folder):
    return sum(f.stat().st_size for f in pathlib.Path(folder).rglob("*") if f.is_file())


with tempfile.TemporaryDirectory(prefix="volseg-scale-") as work:
    os.chdir(work)
    run("phantom", "--modality", "ct", "--size", "full", "--seed", "3", "-o", "full")
    with gzip.open("full/image.nii.gz") as f:
        dim = struct.unpack_from("<8h", f.read(60), 40)
    print(f"phantom {dim[1]} x {dim[2]} x {dim[3]}, {THREADS} threads, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    print("slices organs  CPU s  wall s  MiB  CPU s/slice  results MiB")
    for slices in [50, 150, 450]:
        folder = pathlib.Path(f"archive{slices}")
        folder.mkdir()
        cut("full/image.nii.gz", folder / "image.nii.gz", slices)
        run("manifest", "build", str(folder), "-o", f"{folder}.jsonl")
        for organs in ORGANS:
            more = ["--organs", organs] if organs else []
            out = f"out{slices}_{len(organs)}"
            cpu, wall, mib, code = run("batch", "run", "--manifest", f"{folder}.jsonl", "--out", out, "--threads", THREADS, *more)
            assert code == 0, code
            n = len(organs.split(",")) if organs else 15
            print(f"{slices:6} {n:6} {cpu:6.1f} {wall:7.1f} {mib:5.0f} {cpu / slices:12.3f} {disk(out) / 2**20:9.2f}", flush=True)
    stages = json.loads(next(pathlib.Path(out).rglob("timings.json")).read_text())
    print("stages of the last:", {k: round(v, 2) for k, v in stages.items() if k.endswith("_s")})
