"""Check a section, label its cells, and thin the borders between them to lines.

Thick predicted membranes cost Rand and information scores although no cell is wrong.
The leaderboard therefore floods the membranes from both sides before it scores.

Source: Arganda-Carreras et al. 2015, "border thinning". The flooding is that of
Vincent and Soille 1991 on two levels, with the order and the tie-breaking rules of
Fiji's implementation, on which V_Rand and V_Info of thick borders depend.
"""

from __future__ import annotations

from typing import Any

import cc3d
import numba
import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError, GeometryError
from unetpipe.metrics.columns import PIECE_VOXELS, Columns
from unetpipe.metrics.labelling import UNTOUCHED, Labels
from unetpipe.metrics.scratch import BLOCK_BYTES, Scratch

_QUEUED = -2


def check_section(section: NDArray[Any]) -> None:
    """Raise GeometryError unless the array is one section, shape (y, x)."""
    if section.ndim != 2:
        raise GeometryError(
            f"expected one section of shape (y, x), got shape {section.shape}; "
            "pass the sections of a stack one by one"
        )


def check_pair(
    probability: NDArray[np.floating[Any]], cells: NDArray[np.integer[Any] | np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return one section as float32 probability and mask, or say what does not fit."""
    check_section(probability)
    if probability.shape != cells.shape:
        raise GeometryError(
            f"probability has shape {probability.shape}, cells {cells.shape}; "
            "crop them to the same section"
        )
    return check_proposal(probability), check_cells(cells)


def check_proposal(probability: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the probability as float32, or raise DataError if it is none.

    Notes
    -----
    A proposal reached the challenge as 32-bit TIFF and was compared to 64-bit
    thresholds; 51/255 as float32 is above 0.2, as float64 it is not.
    """
    if probability.dtype.kind != "f":
        raise DataError(
            f"probability has dtype {probability.dtype}; "
            "pass floats in [0, 1], stored uint8 divided by 255"
        )
    low, high = probability.min(initial=0.0), probability.max(initial=0.0)
    if not (low >= 0 and high <= 1):  # also False for NaN
        raise DataError(
            f"probability spans {low} to {high}; scale it to [0, 1] and fill NaN"
        )
    return probability.astype(np.float32)


def check_cells(cells: NDArray[np.integer[Any] | np.bool_]) -> NDArray[np.bool_]:
    """Return the mask of cells, or raise DataError for anything but a binary label."""
    mask: NDArray[np.bool_] = cells != 0
    inside = cells[mask]
    if inside.size and inside.min() != inside.max():
        raise DataError(
            f"cells hold several values, {inside.min()} to {inside.max()}; pass a "
            "binary mask with 0 on the membranes, not instance ids"
        )
    return mask


def label_components(foreground: NDArray[np.bool_]) -> Labels:
    """Label the 4-connected components of one section.

    Parameters
    ----------
    foreground : bool array, shape (y, x)
        True inside cells.

    Returns
    -------
    int32 array, shape (y, x)
        Ids from 1 on; 0 is background, which is 8-connected.

    Examples
    --------
    >>> label_components(np.array([[True, False], [False, True]]))
    array([[1, 0],
           [0, 2]], dtype=int32)
    """
    check_section(foreground)
    labels: NDArray[Any] = cc3d.connected_components(
        np.ascontiguousarray(foreground, np.uint8), connectivity=4
    )
    return labels.astype(np.int32)


def thin_columns(
    columns: Columns, labels: Labels, num_cells: int, scratch: Scratch
) -> None:
    """Grow labelled cells until lines of one voxel part them, in place.

    Parameters
    ----------
    columns : Columns
    labels : int32 array, shape (x + 2, y + 2)
        Ids of cells, ``UNTOUCHED`` between them, ``OUTSIDE`` around; then 0 on the
        lines. A section without cells becomes one cell, as in Fiji: everything merged.
    num_cells : int
    scratch : Scratch
        Where the labels lie.
    """
    if not num_cells:
        for piece in columns.pieces(scratch):
            labels[piece.start + 1 : piece.stop + 1, 1:-1] = 1
        return
    waiting = Scratch(scratch.folder)
    queue = _Queue(waiting)
    for piece in columns.pieces(scratch):
        queue.reserve((piece.stop - piece.start) * columns.height)
        queue.filled = _start(
            labels, piece.start + 1, piece.stop + 1, queue.places, queue.filled
        )
    flat = labels.reshape(-1)
    while queue.taken < queue.filled:
        step = min(PIECE_VOXELS, queue.filled - queue.taken)
        queue.reserve(4 * step)
        queue.taken, queue.filled = _flood(
            flat,
            labels.shape[1],
            queue.places,
            (queue.taken, queue.filled),
            (step, scratch.most_jumps),
        )
        scratch.forget()
        waiting.forget()


class _Queue:
    """Voxels in the order in which they are looked at; a ring that grows."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self.places = scratch.zeros((1 << 12,), np.int64)
        self.taken = self.filled = 0

    def reserve(self, num_places: int) -> None:
        """Make room for so many more."""
        waiting = self.filled - self.taken
        size = self.places.size
        if waiting + num_places <= size:
            return
        while size < waiting + num_places:
            size *= 2
        places = self._scratch.zeros((size,), np.int64)
        for start in range(0, waiting, PIECE_VOXELS):
            stop = min(start + PIECE_VOXELS, waiting)
            ring = np.arange(self.taken + start, self.taken + stop)
            places[start:stop] = self.places[ring % self.places.size]
            self._scratch.forget()
        self.places, self.taken, self.filled = places, 0, waiting


@numba.njit(cache=True, nogil=True)
def _start(
    labels: Labels,
    start: int,
    stop: int,
    places: NDArray[np.int64],
    filled: int,
) -> int:  # pragma: no cover
    """Queue the untouched voxels beside cells: x outer, y inner, Fiji's order."""
    ring = places.size - 1
    for x in range(start, stop):
        for y in range(1, labels.shape[1] - 1):
            if labels[x, y] == UNTOUCHED and (
                labels[x - 1, y] > 0
                or labels[x + 1, y] > 0
                or labels[x, y - 1] > 0
                or labels[x, y + 1] > 0
            ):
                labels[x, y] = _QUEUED
                places[filled & ring] = x * labels.shape[1] + y
                filled += 1
    return filled


@numba.njit(cache=True, nogil=True)
def _flood(
    labels: NDArray[np.int32],
    height: int,
    places: NDArray[np.int64],
    queued: tuple[int, int],
    most: tuple[int, int],
) -> tuple[int, int]:  # pragma: no cover
    """Flood from some queued voxels of a framed, flattened section."""
    steps = (-height, height, -1, 1)
    ring = places.size - 1
    taken, filled = queued
    stop = min(filled, taken + most[0])
    num_jumps, last, before = 0, 0, 0
    while taken < stop and num_jumps < most[1]:
        here = places[taken & ring]
        taken += 1
        block = 4 * here // BLOCK_BYTES
        if block != last:
            num_jumps += block != before
            before, last = last, block
        may_leave_dam = False
        for step in steps:
            near = labels[here + step]
            if near > 0:
                own = labels[here]
                if own == _QUEUED or (own == 0 and may_leave_dam):
                    labels[here] = near
                elif own > 0 and own != near:
                    labels[here] = 0
                    may_leave_dam = False
            elif near == 0:
                if labels[here] == _QUEUED:
                    labels[here] = 0
                    may_leave_dam = True
            elif near == UNTOUCHED:
                labels[here + step] = _QUEUED
                places[filled & ring] = here + step
                filled += 1
    return taken, filled
