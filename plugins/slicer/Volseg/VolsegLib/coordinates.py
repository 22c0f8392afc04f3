"""Positions and masks: RAS to LPS, corners of boxes, run-length text."""

from itertools import product


def ras_to_lps(point):
    """RAS mm to LPS mm (and back)."""
    return [-point[0], -point[1], point[2]]


def transform(matrix, point):
    """A 4 x 4 matrix (rows) applied to a point."""
    return [sum(matrix[r][c] * point[c] for c in range(3)) + matrix[r][3] for r in range(3)]


def roi_corners(centre, size):
    """The eight corners of a box of a centre and full sizes, in the box's own frame."""
    return [[c + s * n / 2 for c, s, n in zip(centre, signs, size)] for signs in product((-1, 1), repeat=3)]


def voxel_box(corners_ijk, dim):
    """First and last voxel along each axis that enclose the corners, inside an image of `dim` voxels.

    Raises ValueError if the box lies outside.
    """
    box = []
    for axis in range(3):
        low = max(round(min(c[axis] for c in corners_ijk)), 0)
        high = min(round(max(c[axis] for c in corners_ijk)), dim[axis] - 1)
        if low > high:
            raise ValueError("the box lies outside the volume")
        box.append((low, high))
    return box


def nearest_voxel(ijk, dim):
    """The voxel of a continuous index. Raises ValueError outside."""
    voxel = [round(v) for v in ijk]
    if any(not 0 <= v < n for v, n in zip(voxel, dim)):
        raise ValueError("the point lies outside the volume")
    return voxel


def decode_run_length(text, width, height):
    """Rows of 0 and 1 of COCO's compact run-length text (columns first)."""
    runs = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[at]) - 48
            at += 1
            more = bool(bits & 0x20)
            value |= (bits & 0x1F) << shift
            shift += 5
            if not more and bits & 0x10:
                value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    rows = [[0] * width for _ in range(height)]
    place = 0
    for n, run in enumerate(runs):
        if n % 2:
            for p in range(place, min(place + run, width * height)):
                rows[p % height][p // height] = 1
        place += run
    return rows
