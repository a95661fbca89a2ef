"""What is remembered of the objects of a frame while the next one is looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.integer[Any]]
Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Some objects, in rising order of their ids.

    Attributes
    ----------
    ids : int64 array, shape (objects,)
    voxels : int64 array, shape (objects,)
    places : float64 array, shape (objects, 2)
        Centroids, y and x, in lengths of the shorter edge of a voxel.
    steps : float64 array, shape (objects, 2)
        From the centroid one frame before to this one; 0 of what is new.
    ages : int64 array, shape (objects,)
        Frames since each was seen last: 0 in the frame itself.
    """

    ids: Ids
    voxels: NDArray[np.int64]
    places: Numbers
    steps: Numbers
    ages: NDArray[np.int64]

    @classmethod
    def none(cls) -> Objects:
        """Return no objects."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, np.empty((0, 2)), np.empty((0, 2)), empty)

    def take(self, rows: NDArray[Any]) -> Objects:
        """Return some of the objects, by a mask or by numbers of rows."""
        return Objects(
            *(self.ids[rows], self.voxels[rows], self.places[rows]),
            *(self.steps[rows], self.ages[rows]),
        )

    def older(self) -> Objects:
        """Return the same, not seen for one more frame."""
        return replace(self, ages=self.ages + 1)

    def moved(self, steps: Numbers) -> Objects:
        """Return the same, with the steps that led here."""
        return replace(self, steps=steps)

    @property
    def widths(self) -> Numbers:
        """Diameters of discs of the same area, as long as voxels are squares."""
        return 2 * np.sqrt(self.voxels / np.pi)

    def rows_of(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """Return where ids stand that are known to be there."""
        return np.searchsorted(self.ids, ids.astype(np.int64))

    def __len__(self) -> int:
        return len(self.ids)


def objects_of_frame(frame: Frame, edges: tuple[float, float]) -> Objects:
    """Return the objects of a frame, shape (y, x); 0 is background.

    Examples
    --------
    >>> found = objects_of_frame(np.array([[7, 7, 0], [0, 0, 9]]), (2.0, 1.0))
    >>> found.ids, found.voxels, found.places.tolist()
    (array([7, 9]), array([2, 1]), [[0.0, 0.5], [2.0, 2.0]])
    """
    y, x = np.nonzero(frame)
    if not y.size:
        return Objects.none()
    inside = frame[y, x].astype(np.int64)
    first = inside.min()
    rows = inside - first
    voxels = np.bincount(rows)
    is_there = voxels > 0
    sums = [np.bincount(rows, weights=axis)[is_there] for axis in (y, x)]
    ids, voxels = first + np.flatnonzero(is_there), voxels[is_there]
    places = np.stack(sums, axis=1) / voxels[:, None] * np.array(edges)
    return Objects(ids, voxels, places, np.zeros_like(places), np.zeros_like(ids))


def join_frame_objects(first: Objects, second: Objects) -> Objects:
    """Return two sets of objects as one, in the order of ids."""
    names = Objects.__slots__
    both = Objects(
        *(np.concatenate([getattr(first, n), getattr(second, n)]) for n in names)
    )
    return both.take(np.argsort(both.ids, kind="stable"))


def remember_lost_objects(seen: Frame, new: Frame, lost: Ids) -> Frame:
    """Return a frame with lost objects of the one before where nothing else lies."""
    if not lost.size:
        return new
    is_kept = (new == 0) & np.isin(seen, lost)
    return np.where(is_kept, seen, new)
