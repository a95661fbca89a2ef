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

Labels = NDArray[np.int32]

_UNTOUCHED = -1
_QUEUED = -2
_OUTSIDE = -3


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


def thin_borders(foreground: NDArray[np.bool_]) -> Labels:
    """Grow the cells of one section until lines of one voxel part them.

    Parameters
    ----------
    foreground : bool array, shape (y, x)
        True inside cells, False on membranes of any thickness.

    Returns
    -------
    int32 array, shape (y, x)
        Ids of the grown cells, from 1 on; 0 is the line between them. A section
        without cells becomes one cell, as in Fiji: everything merged.

    Examples
    --------
    >>> thin_borders(np.array([[True, False, False, False, True]]))
    array([[1, 1, 0, 2, 2]], dtype=int32)
    """
    labels = label_components(foreground)
    if not foreground.any():
        return np.ones_like(labels)
    basins = np.where(foreground, labels, np.int32(_UNTOUCHED))
    padded = np.pad(basins, 1, constant_values=_OUTSIDE)
    _flood(padded.ravel(), padded.shape[0], padded.shape[1], foreground.size)
    return np.ascontiguousarray(padded[1:-1, 1:-1])


@numba.njit(cache=True, nogil=True)
def _flood(
    labels: NDArray[np.int32], height: int, width: int, capacity: int
) -> None:  # pragma: no cover
    """Flood the untouched voxels of a padded, flattened section in place."""
    steps = (-1, 1, -width, width)
    queue = np.empty(capacity, np.int64)
    filled = 0
    for x in range(1, width - 1):  # x outer, y inner: Fiji's order breaks ties
        for y in range(1, height - 1):
            here = y * width + x
            if labels[here] == _UNTOUCHED:
                for step in steps:
                    if labels[here + step] > 0:
                        labels[here] = _QUEUED
                        queue[filled] = here
                        filled += 1
                        break
    taken = 0
    may_leave_dam = False  # shared by all voxels, as in Fiji
    while taken < filled:
        here = queue[taken]
        taken += 1
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
            elif near == _UNTOUCHED:
                labels[here + step] = _QUEUED
                queue[filled] = here + step
                filled += 1
