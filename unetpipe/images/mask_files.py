"""Masks of single objects, one file each, as sections of ids.

::

    ID/images/ID.png      one section
    ID/masks/a.png        its objects: one folder makes up one section,
    ID/masks/b.png ...    folders and files in natural order

Objects are numbered through all sections. Where masks overlap, the smaller object has
the voxels, so that none on top of another disappears; of equal ones, the first.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.axes import Index
from unetpipe.images.sequence import open_section
from unetpipe.images.source import ImageSource

LISTED = 5  # offenders named in a message


class MaskFiles(ImageSource):
    """Sections of ids, (z, y, x), made of one mask file for each object."""

    by_section = True

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        groups = [list(group) for _, group in groupby(files, lambda path: path.parent)]
        self._groups = groups
        starts = np.cumsum([0, *map(len, groups)])
        self._first_ids = [int(n) + 1 for n in starts[:-1]]
        self.dtype = np.dtype(np.uint32)
        self.shape = (len(groups), *self._check_shapes())
        self.axes = "zyx"
        self._overlaps: dict[int, int] = {}

    def read(self, index: Index) -> NDArray[Any]:
        """Return a box of the sections."""
        sections = range(*index[0].indices(len(self._groups)))
        return np.stack([self._paint(z) for z in sections])[:, index[1], index[2]]

    def where(self, section: int) -> str:
        """Name the folder of a section."""
        return str(self._groups[section][0].parent)

    def warnings(self) -> list[str]:
        """Say where masks overlap, in what has been read."""
        places = sorted(z for z, count in self._overlaps.items() if count)
        if not places:
            return []
        return [
            f"masks overlap in {len(places)} of {len(self._groups)} sections, "
            f"{sum(self._overlaps.values())} voxels, first in {self.where(places[0])}; "
            "the smaller object has them"
        ]

    def _check_shapes(self) -> tuple[int, int]:
        """Return the shape of all masks; the headers alone are read."""
        shapes = {}
        for path in self.files:
            source = open_section(path, colours=False)
            source.close()
            shapes[path] = source.shape
        first = shapes[self.files[0]]
        odd = [f"{p} {shape}" for p, shape in shapes.items() if shape != first]
        if odd or len(first) != 2:
            more = f" and {len(odd) - LISTED} more" if len(odd) > LISTED else ""
            differ = f", others differ: {', '.join(odd[:LISTED])}{more}" if odd else ""
            raise DataError(
                f"the mask {self.files[0]} has the shape {first}{differ}; masks are "
                "grey images (y, x) of the shape of their section; sections of another "
                "shape are volumes of their own in the sheet"
            )
        return first[0], first[1]

    def _paint(self, section: int) -> NDArray[np.uint32]:
        """Return one section of ids, the smallest object on top."""
        files = self._groups[section]
        # Places, not masks: a section may have hundreds of small objects.
        places = [np.flatnonzero(_read_mask(path)) for path in files]
        ids = np.zeros(self.shape[1:], np.uint32)
        painted, first = ids.reshape(-1), self._first_ids[section]
        for k in sorted(range(len(files)), key=lambda k: (-places[k].size, -k)):
            painted[places[k]] = first + k
        left = np.bincount(painted[painted > 0] - first, minlength=len(files))
        for path, place, seen in zip(files, places, left, strict=True):
            if not seen:
                raise DataError(
                    f"the mask {path} "
                    + ("lies wholly under others" if place.size else "is empty")
                    + "; remove it, or correct it"
                )
        self._overlaps[section] = sum(p.size for p in places) - int(left.sum())
        return ids


def _read_mask(path: Path) -> NDArray[np.bool_]:
    """Return which voxels belong to the object: all that are not 0, of one value."""
    source = open_section(path, colours=False)
    try:
        values = source.read(tuple(slice(0, n) for n in source.shape))
    finally:
        source.close()
    mask: NDArray[np.bool_] = values != 0
    inside = values[mask]
    if inside.size and inside.min() != inside.max():
        raise DataError(
            f"the mask {path} holds the values {inside.min()} to {inside.max()} beside "
            "0; a mask holds 0 and one other: save one with soft edges, or from JPEG, "
            "with two values; with many objects in a file, write label_kind instances"
        )
    return mask
