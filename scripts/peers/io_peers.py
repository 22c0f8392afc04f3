#!/usr/bin/env python3
"""Reading and writing: volseg beside nibabel (.nii.gz) and SimpleITK (a zipped DICOM series), same files, in turn.

    cargo build --release --workspace --examples
    python3 scripts/peers/io_peers.py FOLDER target/release/examples/time_io CT.nii.gz [THREADS]

CT.nii.gz is any CT with 512 x 512 slices (`volseg phantom --size full`); its slices, repeated back and forth, become the 200 of the test files,
which are made in FOLDER if they are not there. The DICOM series is of that CT too, one file a slice, uncompressed, zipped with deflate.
Needs nibabel, SimpleITK, pydicom, numpy. The least of three runs counts for each tool, and peak memory is that of its process.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np


def least(f):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return round(min(times), 3)


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def make(folder, source):
    import nibabel as nib

    image = nib.load(source)
    voxels = np.asanyarray(image.dataobj).astype(np.int16)
    n = voxels.shape[2]
    order = [i if (i // n) % 2 == 0 else -1 - i for i in range(200)]
    voxels = np.ascontiguousarray(voxels[:, :, [o % n for o in order]])
    out = nib.Nifti1Image(voxels, image.affine, dtype=np.int16)
    nib.save(out, folder / "ct.nii.gz")
    make_series(folder, voxels, image.affine)


def make_series(folder, voxels, affine):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    with zipfile.ZipFile(folder / "series.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as z:
        for k in range(voxels.shape[2]):
            d = Dataset()
            d.file_meta = FileMetaDataset()
            d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
            d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            d.Modality, d.SeriesInstanceUID, d.StudyInstanceUID, d.FrameOfReferenceUID = "CT", series, study, frame
            d.InstanceNumber, d.ImagePositionPatient = k + 1, [0, 0, float(k * spacing[2])]
            d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            d.PixelSpacing, d.SliceThickness = [float(spacing[1]), float(spacing[0])], float(spacing[2])
            d.Rows, d.Columns = voxels.shape[1], voxels.shape[0]
            d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 1
            d.BitsAllocated, d.BitsStored, d.HighBit = 16, 16, 15
            d.RescaleSlope, d.RescaleIntercept = 1, 0
            d.PixelData = np.ascontiguousarray(voxels[:, :, k].T).tobytes()
            with tempfile.NamedTemporaryFile() as f:
                d.save_as(f.name, enforce_file_format=True)
                z.write(f.name, f"slice_{k:04}.dcm")


def nibabel_times(folder):
    import nibabel as nib

    def read():
        return np.asanyarray(nib.load(folder / "ct.nii.gz").dataobj)

    read_s, read_peak = least(read), peak_mib()
    voxels = read()
    labels = (voxels > 0).astype(np.uint8) + (voxels > 60) + (voxels > 120)
    affine = nib.load(folder / "ct.nii.gz").affine
    write_s = least(lambda: nib.save(nib.Nifti1Image(labels, affine), folder / "nibabel.nii.gz"))
    size = (folder / "nibabel.nii.gz").stat().st_size
    return {"tool": f"nibabel {nib.__version__}", "read_s": read_s, "read_peak_mib": read_peak, "write_s": write_s, "written": size}


def simpleitk_times(folder, threads):
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)

    def read(names):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(names)
        return sitk.GetArrayViewFromImage(reader.Execute()).shape

    def whole():
        with tempfile.TemporaryDirectory() as t:
            with zipfile.ZipFile(folder / "series.zip") as z:
                z.extractall(t)
            read(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(t))

    with tempfile.TemporaryDirectory() as t:
        with zipfile.ZipFile(folder / "series.zip") as z:
            z.extractall(t)
        bare = least(lambda: read(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(t)))
    return {"tool": f"SimpleITK {sitk.Version.VersionString()}", "read_s": least(whole), "read_unpacked_s": bare,
            "read_peak_mib": peak_mib()}


def main():
    folder, ours, source, threads = Path(sys.argv[1]), sys.argv[2], sys.argv[3], (sys.argv[4:] or ["2"])[0]
    if source in ("nibabel", "simpleitk"):  # a peer alone in its process, for its peak memory
        print(json.dumps(nibabel_times(folder) if source == "nibabel" else simpleitk_times(folder, int(threads))))
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "series.zip").exists():
        make(folder, source)
    for f in ("ct.nii.gz", "series.zip"):
        print(f, (folder / f).stat().st_size >> 20, "MiB")
    env = {**os.environ, "RAYON_NUM_THREADS": threads}
    for _ in range(2):
        subprocess.run([ours, folder / "ct.nii.gz", folder / "volseg.nii.gz"], env=env, check=True)
        print("volseg wrote", (folder / "volseg.nii.gz").stat().st_size, "bytes", flush=True)
        subprocess.run([sys.executable, __file__, folder, ours, "nibabel", threads], check=True)
        subprocess.run([ours, folder / "series.zip"], env=env, check=True)
        subprocess.run([sys.executable, __file__, folder, ours, "simpleitk", threads], check=True)
    print("load average", os.getloadavg()[0])


main()
