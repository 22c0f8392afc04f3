#!/usr/bin/env python3
"""The module VolsegSegment in Slicer's own CLI engine (PyPI `slicer-core`, about 1 GB): parser, runs, cancel, results.

    python3 -m venv venv && venv/bin/pip install slicer-core pynrrd
    venv/bin/python scripts/oracles/slicer/run.py target/release/volseg

A CT phantom goes through the engine by name, with a points list and with an ROI, under identity, oblique, flipped and
anisotropic geometry; results are read by Slicer's storage nodes. Prints one line a check; ends with 1 at the first that fails.
"""
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nrrd
import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

sys.path.insert(0, str(Path(__file__).parent))
from engine import Engine, matrix, register  # noqa: E402

checks = 0


def check(what, fine, seen=""):
    global checks
    if not fine:
        sys.exit(f"FAILED: {what}: {seen}")
    checks += 1
    print(f"ok: {what}", flush=True)


def turned(degrees, axis):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rows = np.eye(3)
    a, b = [i for i in range(3) if i != axis]
    rows[a, a], rows[a, b], rows[b, a], rows[b, b] = c, -s, s, c
    return rows


def volume_node(engine, voxels, directions, spacing, name):
    """A scalar volume of int16 voxels [k, j, i]; `directions`: columns are the index axes in RAS."""
    image = vtk.vtkImageData()
    image.SetDimensions(*reversed(voxels.shape))
    scalars = numpy_support.numpy_to_vtk(voxels.astype(np.int16).ravel(), deep=True, array_type=vtk.VTK_SHORT)
    image.GetPointData().SetScalars(scalars)
    node = engine.add("vtkMRMLScalarVolumeNode", name)
    node.SetAndObserveImageData(image)
    rows = np.eye(4)
    rows[:3, :3] = directions @ np.diag(spacing)
    rows[:3, 3] = [31.0, -17.5, 8.25]
    node.SetIJKToRASMatrix(matrix(rows))
    return node, rows


def matrix_of(node):
    m = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(m)
    return np.array([[m.GetElement(r, c) for c in range(4)] for r in range(4)])


def segment_voxels(segmentation, identity):
    """Extent and voxels (k, j, i) of a segment's own label map, and its index-to-world matrix."""
    representation = segmentation.GetSegmentation().GetSegment(identity).GetRepresentation("Binary labelmap")
    m = vtk.vtkMatrix4x4()
    representation.GetImageToWorldMatrix(m)
    rows = np.array([[m.GetElement(r, c) for c in range(4)] for r in range(4)])
    extent = representation.GetExtent()
    shape = [extent[2 * a + 1] - extent[2 * a] + 1 for a in (2, 1, 0)]
    value = segmentation.GetSegmentation().GetSegment(identity).GetLabelValue()
    scalars = representation.GetPointData().GetScalars()
    if scalars is None or min(shape) < 1:
        return extent, np.zeros((0, 0, 0), bool), rows
    return extent, numpy_support.vtk_to_numpy(scalars).reshape(shape) == value, rows


def placed(extent, voxels, shape):
    """A segment's voxels on the volume's grid."""
    out = np.zeros(shape, bool)
    if voxels.size:
        out[extent[4]:extent[5] + 1, extent[2]:extent[3] + 1, extent[0]:extent[1] + 1] = voxels
    return out


def main(volseg, folder):
    installed = folder / "modules"
    printed = subprocess.run([volseg, "slicer", "install", "--dir", installed], check=True, capture_output=True, text=True)
    check("install prints both folders", str(installed) in printed.stdout.splitlines(), printed.stdout)
    module = installed / "VolsegSegment"
    check("the folder holds the module alone", sorted(p.name for p in installed.iterdir()) ==
          ["VolsegSegment", "VolsegSegment.xml", "scripted"], list(installed.iterdir()))
    began = time.monotonic()
    told = subprocess.run([module, "--xml"], capture_output=True, text=True, cwd="/")
    seconds = time.monotonic() - began
    check(f"--xml answers in under a second ({seconds:.3f} s), silently on standard error",
          told.returncode == 0 and told.stdout.startswith("<?xml ") and not told.stderr and seconds < 1, told.stderr)
    check("it is the file beside the executable", told.stdout == (installed / "VolsegSegment.xml").read_text())
    register(told.stdout, module)
    check("Slicer's parser takes it", slicer.vtkMRMLCommandLineModuleNode.HasRegisteredModule("Volseg Segment"))
    plain = subprocess.run([volseg, "--xml"], capture_output=True, text=True)
    check("volseg itself is no module", plain.returncode != 0 and plain.stderr and not plain.stdout, plain)

    subprocess.run([volseg, "phantom", "--modality", "ct", "--size", "small", "--seed", "3", "-o", folder / "ct", "--quiet"],
                   check=True)
    subprocess.run([volseg, "convert", folder / "ct/image.nii.gz", "-o", folder / "ct.nrrd", "--quiet"], check=True)
    data, header = nrrd.read(str(folder / "ct.nrrd"))
    # To RAS index axes: x to the right, y to the front, z up.
    steps = np.array(header["space directions"])
    voxels = np.ascontiguousarray(data.transpose(2, 1, 0))
    ras = np.diag([-1.0, -1.0, 1.0]) @ steps.T
    spacing = np.linalg.norm(ras, axis=0)
    stored = ras / spacing

    temporary = folder / "Slicer"
    temporary.mkdir()
    engine = Engine(temporary)
    title = "Volseg Segment"
    geometries = {
        "identity": (voxels, stored, spacing),
        "oblique": (voxels, turned(11, 2) @ turned(7, 0) @ stored, spacing),
        "flipped": (np.ascontiguousarray(voxels[:, ::-1, ::-1]), stored @ np.diag([-1.0, -1.0, 1.0]), spacing),
        "anisotropic": (np.ascontiguousarray(voxels[::2, :, :]), stored, spacing * [1, 1, 2]),
    }
    for name, (array, directions, steps_mm) in geometries.items():
        volume, rows = volume_node(engine, array, directions, steps_mm, f"CT {name}")
        output = engine.add("vtkMRMLSegmentationNode", f"result {name}")
        run = engine.start(title, inputVolume=volume.GetID(), outputSegmentation=output.GetID())
        seen = engine.wait(run)
        check(f"{name}: completed", run.GetStatus() == run.Completed, (run.GetStatusString(), run.GetErrorText()))
        check(f"{name}: standard error is empty", run.GetErrorText().strip() == "", run.GetErrorText())
        check(f"{name}: progress is seen and never goes back ({len(set(seen))} values)",
              len(set(seen)) >= 4 and all(a <= b for a, b in zip(seen, seen[1:])), seen)
        segmentation = output.GetSegmentation()
        identities = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
        filled = 0
        for identity in identities:
            segment = segmentation.GetSegment(identity)
            tag = vtk.mutable("")
            has = segment.GetTag("TerminologyEntry", tag)
            check(f"{name}: {identity} has name, colour and terminology",
                  segment.GetName() and max(segment.GetColor()) > 0 and has and "SCT^" in str(tag) and str(tag).count("~") == 6,
                  (segment.GetName(), segment.GetColor(), str(tag)))
            extent, part, world = segment_voxels(output, identity)
            if part.any():
                filled += 1
                check(f"{name}: {identity} lies on the volume's grid", np.allclose(world, rows, atol=1e-3), (world, rows))
        check(f"{name}: organs are found ({filled} of {len(identities)})", filled >= 3, identities)
        returned = {"count": run.GetParameterAsString("segmentCount"), "summary": run.GetParameterAsString("summary")}
        check(f"{name}: return values arrive ({returned['count']}, {returned['summary'][:40]})",
              returned["count"] == str(filled) and returned["summary"].startswith("found "), returned)

        # Points and a box, placed on the middle of the largest organ, in RAS mm.
        organ = max(identities, key=lambda i: segment_voxels(output, i)[1].sum())
        extent, part, _ = segment_voxels(output, organ)
        mask = placed(extent, part, array.shape)
        k = int(np.argmax(mask.sum(axis=(1, 2))))
        j, i = np.argwhere(mask[k])[mask[k].sum() // 2]
        world = (rows @ [i, j, k, 1])[:3]
        inside = engine.add("vtkMRMLMarkupsFiducialNode", f"inside {name}")
        inside.AddControlPoint(vtk.vtkVector3d(*world), "in")
        away = engine.add("vtkMRMLMarkupsFiducialNode", f"outside {name}")
        away.AddControlPoint(vtk.vtkVector3d(*(rows @ [2, 2, k, 1])[:3]), "out")
        roi = engine.add("vtkMRMLMarkupsROINode", f"box {name}")
        low, high = np.argwhere(mask).min(axis=0)[::-1], np.argwhere(mask).max(axis=0)[::-1]
        low, high = np.maximum(low - 2, 0), np.minimum(high + 2, np.array(mask.shape[::-1]) - 1)
        frame = np.eye(4)
        frame[:3, :3] = rows[:3, :3] / np.linalg.norm(rows[:3, :3], axis=0)
        frame[:3, 3] = (rows @ [*(low + high) / 2, 1])[:3]
        if np.linalg.det(frame[:3, :3]) < 0:
            frame[:3, 0] *= -1
        roi.SetAndObserveObjectToNodeMatrix(matrix(frame))
        roi.SetSize(*((high - low) * np.linalg.norm(rows[:3, :3], axis=0)))
        for what, prompts in {"points": {"foreground": inside.GetID(), "background": away.GetID()},
                              "a box": {"box": roi.GetID()},
                              "both": {"foreground": inside.GetID(), "box": roi.GetID()}}.items():
            prompted = engine.add("vtkMRMLSegmentationNode", f"{what} {name}")
            run = engine.start(title, inputVolume=volume.GetID(), outputSegmentation=prompted.GetID(), organs=organ, **prompts)
            engine.wait(run)
            check(f"{name}, {what}: completed, standard error empty",
                  run.GetStatus() == run.Completed and not run.GetErrorText().strip(), run.GetErrorText())
            segments = prompted.GetSegmentation()
            check(f"{name}, {what}: one segment, {organ}", segments.GetNumberOfSegments() == 1 and
                  segments.GetNthSegmentID(0) == organ, segments.GetNumberOfSegments())
            extent, part, world_rows = segment_voxels(prompted, organ)
            got = placed(extent, part, array.shape)
            overlap = 2 * (got & mask).sum() / max(got.sum() + mask.sum(), 1)
            check(f"{name}, {what}: it lies where the organ lies (Dice with the run by name {overlap:.2f})",
                  overlap > 0.3 and np.allclose(world_rows, rows, atol=1e-3), (overlap, got.sum(), mask.sum()))
            if what != "points":
                where = np.argwhere(got)[:, ::-1]
                check(f"{name}, {what}: nothing lies outside the box",
                      (where >= low - 1).all() and (where <= high + 1).all(), (where.min(0), where.max(0), low, high))

    volume = engine.scene.GetFirstNodeByName("CT identity")
    unnamed = engine.add("vtkMRMLSegmentationNode", "unnamed")
    run = engine.start(title, inputVolume=volume.GetID(), outputSegmentation=unnamed.GetID(),
                       foreground=engine.scene.GetFirstNodeByName("inside identity").GetID())
    engine.wait(run)
    check("a point without a name gives one object", run.GetStatus() == run.Completed and
          unnamed.GetSegmentation().GetNumberOfSegments() == 1 and
          segment_voxels(unnamed, unnamed.GetSegmentation().GetNthSegmentID(0))[1].any(), run.GetErrorText())
    label = engine.add("vtkMRMLLabelMapVolumeNode", "bare values")
    run = engine.start(title, inputVolume=volume.GetID(), outputSegmentation=label.GetID(), organs="liver,spleen")
    engine.wait(run)
    array = numpy_support.vtk_to_numpy(label.GetImageData().GetPointData().GetScalars())
    check("a label map node takes the values", run.GetStatus() == run.Completed and len(np.unique(array)) == 3, np.unique(array))

    table = engine.add("vtkMRMLTableNode", "volumes")
    target = engine.add("vtkMRMLSegmentationNode", "with table")
    run = engine.start(title, inputVolume=volume.GetID(), outputSegmentation=target.GetID(), volumes=table.GetID(), organs="liver")
    engine.wait(run)
    check("the table of volumes loads", run.GetStatus() == run.Completed and table.GetNumberOfRows() == 1 and
          table.GetCellText(0, 0) == "liver", (run.GetErrorText(), table.GetNumberOfRows()))

    outside = engine.add("vtkMRMLMarkupsFiducialNode", "far away")
    outside.AddControlPoint(vtk.vtkVector3d(9000, 0, 0), "far")
    constant = engine.add("vtkMRMLSegmentationNode", "none")
    for what, parameters, part in (
            ("a point outside", {"foreground": outside.GetID()}, "outside"),
            ("a model that is not installed", {"model": "sam-med2d", "modelDir": str(folder)}, "not installed"),
            ("a device that is not there", {"device": "cuda"}, "CPU"),
            ("an organ that is none", {"organs": "soul"}, "expected spleen")):
        run = engine.start(title, inputVolume=volume.GetID(), outputSegmentation=constant.GetID(), **parameters)
        engine.wait(run)
        text = run.GetErrorText().strip()
        check(f"{what}: completed with errors, one sentence ({text.splitlines()[-1][:70] if text else ''})",
              run.GetStatus() == run.CompletedWithErrors and part in text and constant.GetSegmentation().GetNumberOfSegments() == 0,
              (run.GetStatusString(), text))

    # A large volume, so that there is time to cancel.
    big = np.repeat(np.repeat(voxels, 2, axis=1), 2, axis=2)
    big = np.ascontiguousarray(np.tile(big, (6, 1, 1)))
    volume, _ = volume_node(engine, big, stored, spacing * [0.5, 0.5, 1], "CT large")
    target = engine.add("vtkMRMLSegmentationNode", "cancelled")
    run = engine.start(title, inputVolume=volume.GetID(), outputSegmentation=target.GetID())
    engine.wait(run, until=lambda n: n.GetProgress() >= 8)
    at = run.GetProgress()
    run.Cancel()
    began = time.monotonic()
    engine.wait(run)
    check(f"cancel at {at} % ends the run in {time.monotonic() - began:.1f} s", run.GetStatus() == run.Cancelled and at < 95,
          run.GetStatusString())
    check("a cancelled run loads nothing", target.GetSegmentation().GetNumberOfSegments() == 0)
    small = engine.scene.GetFirstNodeByName("CT identity")
    run = engine.start(title, inputVolume=small.GetID(), outputSegmentation=target.GetID(), organs="liver")
    engine.wait(run)
    check("the next run works", run.GetStatus() == run.Completed)
    engine.stop()
    left = sorted(str(p) for p in temporary.rglob("*"))
    check("nothing is left in Slicer's temporary folder", not left, left)
    own = Path(tempfile.gettempdir()) / "volseg-slicer"
    check("nothing of ours is left in the system's", not own.exists() or not any(own.iterdir()), own)
    print(f"{checks} passed, 0 failed (slicer-core {slicer_version()})")


def slicer_version():
    from importlib.metadata import version
    return version("slicer-core")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(sys.argv[1]).resolve(), Path(place))
