#!/usr/bin/env python3
"""A CT slice in JPEG-LS, lossless and near-lossless, for crates/volseg-io/tests/jpeg_ls.rs:

    python3 scripts/parity/make_jpegls_fixture.py crates/volseg-io/tests/fixtures

Needs pydicom and pyjpegls. Pixel (row r, column c) of 16 x 24 is 40 r + 7 c - 300 HU; the near-lossless file is off by 2 at most.
"""
import sys
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless, JPEGLSNearLossless

out = Path(sys.argv[1])
r, c = np.mgrid[0:16, 0:24]
stored = (40 * r + 7 * c - 300 + 1024).astype(np.uint16)
for name, syntax, options in [("lossless", JPEGLSLossless, {}), ("near", JPEGLSNearLossless, {"jls_error": 2})]:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = "2.25.1" + ("1" if name == "near" else "0")
    d.Modality, d.SeriesInstanceUID, d.StudyInstanceUID, d.FrameOfReferenceUID = "CT", "2.25.2", "2.25.3", "2.25.4"
    d.InstanceNumber, d.ImagePositionPatient, d.ImageOrientationPatient = 1, [0, 0, 0], [1, 0, 0, 0, 1, 0]
    d.PixelSpacing, d.SliceThickness, d.Rows, d.Columns = [1.5, 1.5], 2, 16, 24
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 12, 11
    d.RescaleSlope, d.RescaleIntercept = 1, -1024
    d.PixelData = stored.tobytes()
    d.compress(syntax, encoding_plugin="pyjpegls", generate_instance_uid=False, **options)
    d.save_as(out / f"jpeg_ls_{name}.dcm", enforce_file_format=True)
