"""Boxes of voxels: pure integers, always in the order z, y, x, always half-open."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

Zyx = tuple[int, int, int]

AXES = "zyx"
UNKNOWN_SIZE = (1.0, 1.0, 1.0)
"""Edges of a voxel (nm) where nobody knows them: scales are then lengths in voxels."""


@dataclass(frozen=True, slots=True)
class Halo:
    """Real neighbours that are read around a region and thrown away afterwards.

    ::

        |bbbb|rrrrrrrrrr|aaaaa|     b  before   r  region   a  after

    A pair, because the two sides differ: the paper's network sees 92 voxels before
    and 96 after a region of 384.
    """

    before: Zyx
    after: Zyx

    @property
    def total(self) -> Zyx:
        """Voxels added along each axis."""
        return as_zyx(b + a for b, a in zip(self.before, self.after, strict=True))


@dataclass(frozen=True, slots=True)
class Roi:
    """A box of voxels, ``start`` inclusive and ``stop`` exclusive on each axis.

    It may reach outside its volume (negative starts): then it names voxels that
    mirror padding invents.

    Examples
    --------
    >>> Roi((0, 0, 0), (1, 4, 6)).shape
    (1, 4, 6)
    """

    start: Zyx
    stop: Zyx

    @property
    def shape(self) -> Zyx:
        """Voxels along z, y, x."""
        return as_zyx(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def num_voxels(self) -> int:
        """Voxels in the box, 0 where it is empty."""
        return prod(max(n, 0) for n in self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of the box in a (z, y, x) array."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @classmethod
    def between(cls, *intervals: tuple[int, int]) -> "Roi":
        """Return the box of three half-open intervals along z, y, x."""
        return cls(as_zyx(a for a, _ in intervals), as_zyx(b for _, b in intervals))

    def grow(self, halo: Halo) -> "Roi":
        """Return the box with the halo around it."""
        return Roi(
            as_zyx(a - h for a, h in zip(self.start, halo.before, strict=True)),
            as_zyx(b + h for b, h in zip(self.stop, halo.after, strict=True)),
        )

    def intersect(self, other: "Roi") -> "Roi":
        """Return what both boxes share; of shape 0 where they are apart."""
        start = as_zyx(map(max, self.start, other.start))
        stop = as_zyx(map(min, self.stop, other.stop))
        return Roi(start, as_zyx(map(max, start, stop)))

    def around(self, other: "Roi") -> "Roi":
        """Return the smallest box that holds both.

        Examples
        --------
        >>> Roi((0, 0, 0), (1, 2, 2)).around(Roi((0, 4, 1), (1, 5, 3))).stop
        (1, 5, 3)
        """
        start = as_zyx(map(min, self.start, other.start))
        return Roi(start, as_zyx(map(max, self.stop, other.stop)))

    def relative_to(self, origin: Zyx) -> "Roi":
        """Return the same box counted from ``origin``."""
        return Roi(
            as_zyx(a - o for a, o in zip(self.start, origin, strict=True)),
            as_zyx(b - o for b, o in zip(self.stop, origin, strict=True)),
        )


def as_zyx(values: Iterable[int]) -> Zyx:
    """Return three integers as a (z, y, x) tuple."""
    z, y, x = values
    return int(z), int(y), int(x)


def round_up(length: int, multiple: int) -> int:
    """Return the smallest multiple of ``multiple`` that is at least ``length``."""
    return -(-length // multiple) * multiple


def whole_volume(shape: Zyx) -> Roi:
    """Return the box of all voxels of a volume."""
    return Roi((0, 0, 0), shape)


def grid_shape(shape: Zyx, cell: Zyx) -> Zyx:
    """Return how many cells of a grid, anchored at the origin, cover a volume."""
    return as_zyx(-(-n // c) for n, c in zip(shape, cell, strict=True))


def grid_cell(index: Zyx, cell: Zyx, shape: Zyx) -> Roi:
    """Return cell ``index`` of a grid anchored at the origin, clipped to the volume."""
    start = as_zyx(i * c for i, c in zip(index, cell, strict=True))
    stop = as_zyx(min(a + c, n) for a, c, n in zip(start, cell, shape, strict=True))
    return Roi(start, stop)


def grid_number(index: Zyx, counts: Zyx) -> int:
    """Return the number of a cell of a grid of so many cells, z slowest."""
    return (index[0] * counts[1] + index[1]) * counts[2] + index[2]


def grid_index(number: int, counts: Zyx) -> Zyx:
    """Return where the cell of a number lies in a grid of so many cells."""
    z, rest = divmod(number, counts[1] * counts[2])
    return as_zyx((z, *divmod(rest, counts[2])))


def range_of_part(count: int, part: int, num_parts: int) -> range:
    """Return which of ``count`` things one of so many parts does.

    Examples
    --------
    >>> [list(range_of_part(5, part, 2)) for part in range(2)]
    [[0, 1], [2, 3, 4]]
    """
    return range(part * count // num_parts, (part + 1) * count // num_parts)


def iterate_grid(roi: Roi, cell: Zyx) -> Iterator[Zyx]:
    """Yield the indices of all grid cells that touch a box, z slowest."""
    return (
        as_zyx(index)
        for index in product(
            *(
                range(a // c, -(-b // c))
                for a, b, c in zip(roi.start, roi.stop, cell, strict=True)
            )
        )
    )


def cells_of_boxes(boxes: Iterable[Roi], cell: Zyx) -> list[Zyx]:
    """Return the indices of all grid cells that touch a box, each once, z slowest.

    Examples
    --------
    >>> boxes = [Roi((0, 3, 0), (1, 5, 1)), Roi((0, 0, 0), (1, 1, 1))]
    >>> cells_of_boxes(boxes, (1, 4, 4))
    [(0, 0, 0), (0, 1, 0)]
    """
    return sorted({index for box in boxes for index in iterate_grid(box, cell)})


def parts_in(boxes: Iterable[Roi], roi: Roi) -> list[Roi]:
    """Return what a box shares with each of some others, where it shares anything."""
    shared = (box.intersect(roi) for box in boxes)
    return [part for part in shared if part.num_voxels]


def windows_around(boxes: Iterable[Roi], reach: Zyx, shape: Zyx) -> list[Roi]:
    """Return boxes with their surroundings; those that share voxels are joined.

    Parameters
    ----------
    boxes : iterable of Roi
    reach : (z, y, x)
        How far the surroundings of a box reach.
    shape : (z, y, x)
        Of the volume.

    Examples
    --------
    >>> boxes = [Roi((0, 0, 0), (1, 2, 2)), Roi((0, 0, 3), (1, 2, 4))]
    >>> [window.stop for window in windows_around(boxes, (0, 1, 1), (1, 9, 9))]
    [(1, 3, 5)]
    """
    windows: list[Roi] = []
    for box in boxes:
        window = box.grow(Halo(reach, reach)).intersect(whole_volume(shape))
        while near := [other for other in windows if parts_in([other], window)]:
            windows = [other for other in windows if other not in near]
            for other in near:
                window = window.around(other)
        windows.append(window)
    return windows
