"""Outlines of objects as polygons along the edges of pixels.

::

    . . . .        corners count from the pixel's own corner, x to the right, y down:
    . # # .        this object is (1, 1) (3, 1) (3, 2) (2, 2) (2, 3) (1, 3)
    . # . .

so that no pixel's centre lies on an outline, and filling it gives the object back.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

Corner = tuple[int, int]  # x, y
Ring = list[Corner]  # the first is not repeated

EAST, SOUTH, WEST, NORTH = (1, 0), (0, 1), (-1, 0), (0, -1)
RIGHT_OF: dict[Corner, Corner] = {EAST: SOUTH, SOUTH: WEST, WEST: NORTH, NORTH: EAST}


@dataclass(frozen=True, slots=True)
class Polygon:
    """One piece of an object: an outline, clockwise on the screen, and its holes."""

    outer: Ring
    holes: tuple[Ring, ...] = ()


def trace_section(ids: NDArray[np.integer]) -> list[tuple[int, list[Polygon]]]:
    """Return each object of a section, in rising order, and its polygons.

    Parameters
    ----------
    ids : integer array, shape (y, x)
        0 is background.
    """
    numbers, dense = np.unique(ids, return_inverse=True)
    dense = dense.reshape(ids.shape) + (0 if numbers[:1] == 0 else 1)
    numbers = numbers[numbers != 0]
    traced = []
    for place, box in enumerate(find_objects(dense, len(numbers)), start=1):
        y, x = box
        polygons = trace_mask(dense[box] == place, (y.start, x.start))
        traced.append((int(numbers[place - 1]), polygons))
    return traced


def trace_mask(mask: NDArray[np.bool_], start: tuple[int, int]) -> list[Polygon]:
    """Return the polygons of a mask, shape (y, x), that begins at (y, x).

    Pixels that share a corner only belong to different polygons, or are neighbours by
    another way; rings never touch themselves.
    """
    pieces, count = label(mask)
    outers: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {number: [] for number in range(1, count + 1)}
    for ring, piece in _rings(pieces):
        moved = [(x + start[1], y + start[0]) for x, y in ring]
        if _is_clockwise(ring):
            outers[piece] = moved
        else:
            holes[piece].append(moved)
    return [Polygon(outers[n], tuple(holes[n])) for n in range(1, count + 1)]


def _rings(pieces: NDArray[np.integer]) -> Iterator[tuple[Ring, int]]:
    """Yield all rings, with the number of the piece on their right hand side."""
    ways = _edges(pieces)
    used: set[tuple[Corner, Corner]] = set()
    for begin, leaving in ways.items():
        for first, piece in leaving.items():
            path: Ring = []
            place, way = begin, first
            while (place, way) not in used:
                used.add((place, way))
                path.append(place)
                place = place[0] + way[0], place[1] + way[1]
                onward = ways[place]
                # Where two outlines cross, each stays with its own pixel.
                turned = RIGHT_OF[way]
                way = turned if turned in onward else next(iter(onward))
            for loop in _simple_loops(path):
                yield _without_straights(loop), piece


def _edges(pieces: NDArray[np.integer]) -> dict[Corner, dict[Corner, int]]:
    """Return where outlines go on from each corner, and of which piece they are.

    Of each pixel the edges to what is not of its piece, clockwise around it.
    """
    padded = np.pad(pieces, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        ((0, 0), EAST, padded[:-2, 1:-1]),
        ((0, 1), SOUTH, padded[1:-1, 2:]),
        ((1, 1), WEST, padded[2:, 1:-1]),
        ((1, 0), NORTH, padded[1:-1, :-2]),
    )
    ways: dict[Corner, dict[Corner, int]] = {}
    for (down, right), way, beyond in sides:
        ys, xs = np.nonzero((inside != 0) & (beyond != inside))
        owners = inside[ys, xs].tolist()
        for x, y, piece in zip(
            (xs + right).tolist(), (ys + down).tolist(), owners, strict=True
        ):
            ways.setdefault((x, y), {})[way] = piece
    return ways


def _simple_loops(path: Ring) -> Iterator[Ring]:
    """Cut a closed path into loops that pass each corner once."""
    open_path: Ring = []
    since: dict[Corner, int] = {}
    for corner in [*path, *path[:1]]:
        if corner in since:
            first = since[corner]
            loop = open_path[first:]
            del open_path[first:]
            for left in loop:
                del since[left]
            yield loop
        since[corner] = len(open_path)
        open_path.append(corner)


def _without_straights(loop: Ring) -> Ring:
    """Leave out the corners where a ring goes straight on."""
    return [
        (x, y)
        for (ax, ay), (x, y), (bx, by) in zip(
            [loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True
        )
        if (x - ax, y - ay) != (bx - x, by - y)
    ]


def _is_clockwise(ring: Ring) -> bool:
    """Return whether a ring runs clockwise on a screen, whose y points down."""
    after = [*ring[1:], ring[0]]
    return sum(x * v - u * y for (x, y), (u, v) in zip(ring, after, strict=True)) > 0
