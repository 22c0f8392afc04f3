#!/usr/bin/env python3
"""Compares what volseg reads with SimpleITK, nibabel, pydicom, pynrrd and dcm2niix: values and affine.

    python3 -m venv venv && venv/bin/pip install SimpleITK nibabel pydicom pynrrd pillow
    apt-get install dcm2niix
    venv/bin/python scripts/oracles/compare.py DATA_FOLDER [--volseg target/release/volseg] [--table OUT.md]

Every NIfTI, NRRD, MetaImage, picture, DICOM file and DICOM folder below DATA_FOLDER is converted by volseg to an
uncompressed NIfTI; that file is read byte by byte here (no library), and compared with each tool that reads the input.
Equal means: all values equal (intensities, after slope and intercept) and every corner of the grid within 1e-4 mm.
Tools that turn the axes (dcm2niix flips rows) are compared after turning back exactly. `expected.csv` beside DICOM files
holds checksums of stored values by pydicom; they are compared with the stored values in our output.
"""
import argparse
import csv
import hashlib
import itertools
import json
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_ours(path):
    """(stored values x,y,z; intensities; affine) of a NIfTI that volseg wrote."""
    raw = path.read_bytes()
    two = struct.unpack_from("<i", raw)[0] == 540
    dim = struct.unpack_from("<8q", raw, 16) if two else struct.unpack_from("<8h", raw, 40)
    code = struct.unpack_from("<h", raw, 12 if two else 70)[0]
    offset = struct.unpack_from("<q", raw, 168)[0] if two else int(struct.unpack_from("<f", raw, 108)[0])
    slope, inter = struct.unpack_from("<2d", raw, 176) if two else struct.unpack_from("<2f", raw, 112)
    if struct.unpack_from("<i" if two else "<h", raw, 348 if two else 254)[0] > 0:
        rows = struct.unpack_from("<12d", raw, 400) if two else struct.unpack_from("<12f", raw, 280)
        affine = np.vstack([np.array(rows, float).reshape(3, 4), [0, 0, 0, 1]])
    else:  # kept from an input with a qform, or with nothing
        affine = nibabel.load(path).affine
    count = int(np.prod(dim[1:4]))
    stored = np.frombuffer(raw, "<" + TYPES[code], count, offset).reshape(dim[1:4], order="F")
    return stored, stored.astype(np.float64) * slope + inter, affine


def of_sitk(image):
    """Values x,y,z and RAS affine of a SimpleITK image."""
    values = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ValueError("several components")
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 2:
        values = values[None]
    n = image.GetDimension()
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(n, n) * np.array(image.GetSpacing())
    m = min(n, 3)
    affine[:m, :m] = direction[:m, :m]
    affine[:m, 3] = np.array(image.GetOrigin())[:m]
    return values.transpose(2, 1, 0), LPS @ affine


def with_sitk(path):
    if path.is_dir():
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(names)
        return of_sitk(reader.Execute())
    return of_sitk(sitk.ReadImage(str(path)))


def with_nibabel(path):
    if path.is_dir() or not path.name.endswith((".nii", ".nii.gz", ".hdr", ".img")):
        raise ValueError("not its format")
    image = nibabel.load(path)
    return np.asarray(image.dataobj, np.float64), image.affine


def with_dcm2niix(path):
    if not (path.is_dir() or is_dicom(path)):
        raise ValueError("not its format")
    with tempfile.TemporaryDirectory() as out:
        one = [] if path.is_dir() else ["-s", "y"]
        subprocess.run(["dcm2niix", "-b", "n", "-z", "n", "-f", "a", *one, "-o", out, str(path)], capture_output=True, check=False)
        found = sorted(Path(out).glob("*.nii"))
        if len(found) != 1:
            raise ValueError(f"{len(found)} files")
        image = nibabel.load(found[0])
        return np.asarray(image.dataobj, np.float64), image.affine


def with_pynrrd(path):
    if path.suffix != ".nrrd":
        raise ValueError("not its format")
    import nrrd

    values, header = nrrd.read(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(header["space directions"], float).T
    affine[:3, 3] = header["space origin"]
    return values, LPS @ affine


TOOLS = {"SimpleITK": with_sitk, "nibabel": with_nibabel, "dcm2niix": with_dcm2niix, "pynrrd": with_pynrrd}


def compare(values, affine, theirs, their_affine):
    """'' if equal, else what differs. Axes are flipped where the other tool runs along them the other way."""
    theirs = np.asarray(theirs)
    while theirs.ndim < 3:
        theirs = theirs[..., None]
    if theirs.shape != values.shape:
        return f"size {theirs.shape} against {values.shape}"
    note = ""
    for axis in range(3):
        if np.dot(affine[:3, axis], their_affine[:3, axis]) < 0:
            step = np.eye(4)
            step[axis, axis], step[axis, 3] = -1, values.shape[axis] - 1
            theirs, their_affine = np.flip(theirs, axis), their_affine @ step
            note += "xyz"[axis]
    corners = np.array([[*c, 1] for c in itertools.product(*[(0, n - 1) for n in values.shape])], float).T
    shift = np.linalg.norm(((affine - their_affine) @ corners)[:3], axis=0).max()
    worst = np.nanmax(np.abs(values - theirs)) if values.size else 0
    problems = ([f"values differ by up to {worst:g}"] if worst > 0 else []) + ([f"corners {shift:.4g} mm apart"] if shift > 1e-4 else [])
    return "; ".join(problems) or ("=" if not note else f"= (axes {note} flipped)")


def is_dicom(path):
    with path.open("rb") as file:
        return path.is_file() and file.read(132)[128:] == b"DICM"


def inputs(folder):
    endings = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".jpg", ".bmp", ".tif")
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and sum(is_dicom(p) for p in path.iterdir() if p.is_file()) > 1:
            yield path
        elif path.is_file() and (path.name.endswith(endings) or is_dicom(path)):
            yield path


def expected(folder):
    out = {}
    for table in folder.rglob("expected.csv"):
        for row in csv.DictReader(table.open()):
            out[(table.parent / row["file"]).resolve()] = row["sha256_of_decoded_as_int32le"]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--volseg", default="target/release/volseg")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sums, rows, counts = expected(args.folder), [], Counter()
    with tempfile.TemporaryDirectory() as out:
        target = Path(out) / "ours.nii"
        for path in inputs(args.folder):
            name = str(path.relative_to(args.folder))
            target.unlink(missing_ok=True)
            run = subprocess.run([args.volseg, "convert", "--quiet", "--grey", str(path), "-o", str(target)], capture_output=True, text=True, check=False)
            row = {"file": name}
            if run.returncode != 0:
                row["volseg"] = f"exit {run.returncode}: {' '.join(run.stderr.split())[:140]}"
                rows.append(row)
                counts["volseg refused"] += 1
                continue
            stored, values, affine = read_ours(target)
            for tool, reader in TOOLS.items():
                try:
                    row[tool] = compare(values, affine, *reader(path))
                except Exception as error:  # every tool has its own errors; the table names them
                    row[tool] = "-" if "not its format" in str(error) else "does not read it"
                counts[tool, row[tool] if not row[tool].startswith("=") else "="] += 1
            wanted = sums.get(path.resolve())
            if wanted is not None:
                flat = np.ascontiguousarray(stored.transpose(2, 1, 0)).astype("<i4").tobytes()
                row["expected.csv"] = "=" if hashlib.sha256(flat).hexdigest() == wanted else "differs"
                counts["expected.csv", row["expected.csv"]] += 1
            rows.append(row)
    columns = ["volseg", *TOOLS, "expected.csv"]
    lines = ["| file | " + " | ".join(columns) + " |", "|-" * (len(columns) + 1) + "|"]
    lines += ["| " + " | ".join([r["file"], *(r.get(c, "") for c in columns)]) + " |" for r in rows
              if any(not str(v).startswith("=") and v not in ("-", "") for k, v in r.items() if k != "file")]
    print("\n".join(lines))
    for key, n in sorted(counts.items(), key=str):
        print(n, key)
    if args.table:
        args.table.write_text("\n".join(lines) + "\n")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
