#!/usr/bin/env python3
"""How long a click takes over HTTP: first on a slice, again on the same slice, and many clients at once.

    python3 scripts/measure/clicks.py target/release/volseg [full|small|ultrasound|xray]

Standard library only. A CT phantom of ordinary size (or a picture: then a click is one of a named organ) is uploaded, as Slicer's MONAI Label extension does it; times are the
client's, from the request to the last byte of the mask of the whole volume. Limit the cores with `taskset -c 0,1`.
"""
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

volseg = Path(sys.argv[1]).resolve()
SIZE = sys.argv[2] if len(sys.argv) > 2 else "full"


def form(parts):
    out = b"".join(
        f'--b1\r\nContent-Disposition: form-data; name="{n}"{f}\r\n\r\n'.encode() + c + b"\r\n" for n, f, c in parts)
    return out + b"--b1--\r\n"


def call(port, method, path, parts=()):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, path, form(parts), {"Content-Type": "multipart/form-data; boundary=b1"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        sys.exit(f"{path}: {answer.status} {body[:200]}")
    return body


def told(name, times):
    times = sorted(times)
    print(f"{name}: median {statistics.median(times):.0f} ms, 95th percentile {times[int(0.95 * (len(times) - 1))]:.0f} ms, "
          f"longest {times[-1]:.0f} ms ({len(times)} requests)")


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    picture = SIZE in ("ultrasound", "xray")
    kind = ["--modality", SIZE] if picture else ["--modality", "ct", "--size", SIZE]
    organ = {"ultrasound": "breast_tumor", "xray": "lungs"}.get(SIZE, "Segment_1")
    subprocess.run([volseg, "phantom", *kind, "--seed", "4", "--quiet", "-o", folder / "ct"], check=True)
    if picture:
        image = (folder / "ct/image.png").read_bytes()
        i, j = (int.from_bytes(image[at:at + 4], "big") for at in (16, 20))
        k = 1
    else:
        subprocess.run([volseg, "convert", folder / "ct/image.nii.gz", "-o", folder / "ct.nrrd", "--quiet"], check=True)
        image = (folder / "ct.nrrd").read_bytes()
        sizes = next(line for line in image[:2000].split(b"\n") if line.startswith(b"sizes:"))
        i, j, k = (int(v) for v in sizes.split()[1:])
    server = subprocess.Popen([volseg, "serve", "--monai-label", "--listen", "127.0.0.1:0", "--port-file", folder / "port", "--data",
                               folder / "data", "--temp", folder, "--quiet"])
    try:
        while not (folder / "port").exists():
            time.sleep(0.02)
        port = int((folder / "port").read_text())
        print(f"volume {i} x {j} x {k}, {len(os.sched_getaffinity(0))} cores")
        began = time.perf_counter()
        named = f'; filename="a.{"png" if picture else "nrrd"}"'
        call(port, "PUT", "/datastore/?image=a", [("file", named, image)])
        print(f"upload: {1000 * (time.perf_counter() - began):.0f} ms")

        def click(n, s):
            params = {"label": organ, "foreground": [[i // 3 + n % 40, j // 2 + n % 30, s]], "background": [], "slice": s,
                      "result_extension": ".nrrd", "result_dtype": "uint8"}
            began = time.perf_counter()
            body = call(port, "POST", "/infer/embedded-click?image=a", [("params", "", json.dumps(params).encode())])
            return 1000 * (time.perf_counter() - began), body

        def spent():
            """Processor time of the server so far, ms."""
            fields = Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        first, second, work = [], [], []
        if picture:
            first.append(click(0, 0)[0])
        else:
            click(0, 0)
        for s in [0] * 12 if picture else range(5, k, max(k // 12, 1)):
            if not picture:
                first.append(click(0, s)[0])
            # Reading ahead of the slices around ends before the next clicks are timed.
            time.sleep(1.5)
            began = spent()
            second += [click(n, s)[0] for n in range(1, 6)]
            work.append((spent() - began) / 5)
        told("first click on a slice", first)
        told("further click on the same slice", second)
        print(f"processor time of such a click: median {statistics.median(work):.0f} ms")
        s0 = 0 if picture else 5
        alone = {n: click(n, s0 + n % 4 % k)[1] for n in range(25)}
        mask = lambda body: body[body.index(b"NRRD0"):body.rindex(b"--", 0, len(body) - 4)]  # noqa: E731
        many, wrong = [], []

        def client(c):
            for n in range(25):
                m = (7 * n + 3 * c) % 25
                t, body = click(m, s0 + m % 4 % k)
                many.append(t)
                if mask(body) != mask(alone[m]):
                    wrong.append(m)

        threads = [threading.Thread(target=client, args=(c,)) for c in range(8)]
        began = time.perf_counter()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        told("8 clients at once", many)
        print(f"{len(many)} answers in {time.perf_counter() - began:.1f} s, {len(wrong)} masks other than alone")
        sys.exit(1 if wrong or len(many) != 200 else 0)
    finally:
        server.terminate()
        server.wait()
