"""Clicks: a mask of the slice as soon as a point is placed, from the warm server."""

import numpy
import slicer
import vtk
from VolsegLib import coordinates

#: Undo steps that are kept.
STEPS = 50


def pointsVoxels(markups, volume):
    """Defined points of a markups node as voxels of a volume. Raises ValueError for a point outside."""
    to_volume = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, volume.GetParentTransformNode(), to_volume)
    matrix = vtk.vtkMatrix4x4()
    volume.GetRASToIJKMatrix(matrix)
    rows = [[matrix.GetElement(r, c) for c in range(4)] for r in range(4)]
    dim = volume.GetImageData().GetDimensions()
    points = []
    for n in range(markups.GetNumberOfControlPoints()):
        if markups.GetNthControlPointPositionStatus(n) != slicer.vtkMRMLMarkupsNode.PositionDefined:
            continue
        world = [0.0, 0.0, 0.0]
        markups.GetNthControlPointPositionWorld(n, world)
        ijk = coordinates.transform(rows, to_volume.TransformPoint(world))
        points.append(coordinates.nearest_voxel(ijk, dim))
    return points


def sliceView(voxels, axes, number):
    """One slice of a K, J, I array as rows and columns of the server's mask. `axes`: index axes along columns, rows, slices."""
    return numpy.moveaxis(voxels, [2 - axes[2], 2 - axes[1], 2 - axes[0]], [0, 1, 2])[number]


class Clicks:
    """Masks of clicks in one segment, slice by slice, each with an undo step."""

    def __init__(self):
        self.steps = []
        self.count = 0
        #: Number of the newest question of a slice: an older answer is passed over.
        self.newest = {}

    def question(self, image, inside, outside, last):
        """Place and points, as the server wants them, of the slice of the voxel clicked last; None without an inside point."""
        axes = image["axes"]
        number = last[axes[2]]
        points = [
            [p[axes[0]], p[axes[1]], kind]
            for kind, list_ in ((1, inside), (0, outside)) for p in list_ if p[axes[2]] == number
        ]
        if not any(p[2] for p in points):
            return None
        self.count += 1
        self.newest[number] = self.count
        place = {"image": image["image"], "plane": image["plane"], "slice": number, "modality": image["modality"]}
        return self.count, place, points

    def put(self, number, answer, image, volume, target, identity):
        """Puts an answer into the segment; the answer of an older question is passed over. Whether it was put."""
        if number != self.newest.get(answer["slice"]):
            return False
        rows = coordinates.decode_run_length(answer["rle"], *answer["size"])
        voxels = self._voxels(target, identity, volume)
        view = sliceView(voxels, image["axes"], answer["slice"])
        self.steps = self.steps[1 - STEPS:] + [(target, identity, volume, image["axes"], answer["slice"], view.copy())]
        view[:] = numpy.array(rows, dtype=voxels.dtype)
        slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, target, identity, volume)
        return True

    def undo(self):
        """Puts back what the slice held before the last click; False if there is nothing to undo."""
        self.newest.clear()
        if not self.steps:
            return False
        target, identity, volume, axes, number, before = self.steps.pop()
        voxels = self._voxels(target, identity, volume)
        sliceView(voxels, axes, number)[:] = before
        slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, target, identity, volume)
        return True

    @staticmethod
    def _voxels(target, identity, volume):
        """The segment on the volume's grid; zeros for a new one."""
        try:
            voxels = slicer.util.arrayFromSegmentBinaryLabelmap(target, identity, volume)
        except RuntimeError:
            voxels = None
        shape = tuple(reversed(volume.GetImageData().GetDimensions()))
        if voxels is None or voxels.shape != shape:
            return numpy.zeros(shape, dtype=numpy.uint8)
        return numpy.array(voxels)
