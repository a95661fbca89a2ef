"""Warp a binary section by flipping simple points, and classify what remains.

Work happens on flattened sections with a frame of one voxel, so that a voxel's
neighbours lie at fixed steps. The eight neighbours are numbered around the ring::

    0 1 2
    7 . 3
    6 5 4

Foreground is 4-connected, background 8-connected.
Source: Jain et al. 2010; see :mod:`unetpipe.metrics.warping`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.thinning import Labels, label_components

Mask = NDArray[np.bool_]

WINDOW_VOX = 20  # a split is judged within this many voxels to each side

_OUTSIDE = -1


class Mistake(IntEnum):
    """What a voxel does where the proposal differs from the warped truth."""

    NONE = 0
    SPLIT = 1  # parts one cell
    MERGE = 2  # joins cells
    OBJECT_ADDITION = 3  # is an invented cell
    OBJECT_DELETION = 4  # was all that is left of a lost cell
    HOLE_ADDITION = 5  # is membrane inside a cell
    HOLE_DELETION = 6  # fills membrane enclosed by a cell


def _tabulate_simple() -> NDArray[np.bool_]:
    """Decide for each of the 256 rings whether flipping its centre is harmless.

    It is where exactly one 4-connected run of foreground touches the centre by an
    edge, and some neighbour is background. Bit k of the index is neighbour k.
    """
    is_simple = np.zeros(256, np.bool_)
    for code in range(255):  # 255, no background, is not simple
        ring = [bool(code >> k & 1) for k in range(8)]
        start = ring.index(False)
        runs = "".join(
            # edge neighbours have odd numbers
            (("e" if (start + k) % 2 else "c") if ring[(start + k) % 8] else " ")
            for k in range(8)
        ).split()
        is_simple[code] = sum("e" in run for run in runs) == 1
    return is_simple


IS_SIMPLE = _tabulate_simple()


def warp(truth: Mask, proposal: Mask, urgency: NDArray[np.floating[Any]]) -> Mask:
    """Flip simple voxels of the truth until it is as close to the proposal as can be.

    Parameters
    ----------
    truth, proposal : bool arrays, shape (y, x)
        True inside cells.
    urgency : float array, shape (y, x)
        Voxels that differ are tried in descending order of it, equal ones by x then
        y; the result depends on the order.

    Returns
    -------
    bool array, shape (y, x)
        The truth with its topology and, where possible, the proposal's borders.

    Examples
    --------
    The border moves by one voxel:

    >>> truth = np.array([[1, 1, 0, 1, 1]], bool)
    >>> proposal = np.array([[1, 0, 1, 1, 1]], bool)
    >>> warp(truth, proposal, np.ones(truth.shape)).astype(int)
    array([[1, 0, 1, 1, 1]])
    """
    labels = np.pad(truth, 1)
    x, y = np.nonzero((truth != proposal).T)  # x outer, y inner
    order = np.argsort(-urgency[y, x], kind="stable")
    width = labels.shape[1]
    places = ((y + 1) * width + x + 1)[order]
    is_open = np.ones(labels.size, np.bool_)
    _flip_simple(labels.ravel(), places, width, IS_SIMPLE, is_open)
    return labels[1:-1, 1:-1]


def classify_mistakes(warped: Mask, proposal: Mask) -> NDArray[np.uint8]:
    """Name the mistake at each voxel where warped truth and proposal differ.

    Returns
    -------
    uint8 array, shape (y, x)
        0 where they agree, else a value of :class:`Mistake`.
    """
    objects = np.pad(label_components(warped), 1, constant_values=_OUTSIDE)
    mask = np.pad(warped, 1)
    width = mask.shape[1]
    y, x = np.nonzero(warped != proposal)
    kinds = _classify(
        mask.ravel(), objects.ravel(), (y + 1) * width + x + 1, width, WINDOW_VOX
    )
    mistakes = np.zeros(warped.shape, np.uint8)
    mistakes[y, x] = kinds
    return mistakes


@numba.njit(cache=True, nogil=True)
def _ring_steps(width: int) -> NDArray[np.int64]:  # pragma: no cover
    return np.array(
        (-width - 1, -width, -width + 1, 1, width + 1, width, width - 1, -1)
    )


@numba.njit(cache=True, nogil=True)
def _flip_simple(
    labels: Mask,
    places: NDArray[np.int64],
    width: int,
    is_simple: Mask,
    is_open: Mask,
) -> None:  # pragma: no cover
    """Sweep over the places in order, flipping simple ones, until none is left.

    What was not simple is looked at again only after a neighbour was flipped
    (``is_open``): nothing else can have changed it.
    """
    steps = _ring_steps(width)
    pending, flipped = places.size, True
    while flipped:
        kept, flipped = 0, False
        for index in range(pending):
            here = places[index]
            if is_open[here]:
                code = 0
                for k in range(8):
                    code |= labels[here + steps[k]] << k
                if is_simple[code]:
                    labels[here] = not labels[here]
                    flipped = True
                    for k in range(8):
                        is_open[here + steps[k]] = True
                    continue
                is_open[here] = False
            places[kept] = here
            kept += 1
        pending = kept


@numba.njit(cache=True, nogil=True)
def _classify(
    labels: Mask,
    objects: Labels,
    places: NDArray[np.int64],
    width: int,
    reach: int,
) -> NDArray[np.uint8]:  # pragma: no cover
    """Name the mistake at each place from the objects around it."""
    steps = _ring_steps(width)
    kinds = np.empty(places.size, np.uint8)
    reached = np.zeros(labels.size, np.int64)  # index of the last flood that came by
    queue = np.empty((2 * reach + 1) ** 2, np.int64)
    for index in range(places.size):
        here = places[index]
        touches_background = False
        num_objects, first = 0, 0
        for step in steps:
            near = objects[here + step]
            if near == 0:
                touches_background = True
            elif near > 0 and num_objects == 0:
                num_objects, first = 1, near
            elif near > 0 and near != first:
                num_objects = 2  # or more: all the same below
        is_cell = labels[here]
        if num_objects == 0:
            kinds[index] = (
                Mistake.OBJECT_DELETION if is_cell else Mistake.OBJECT_ADDITION
            )
        elif num_objects == 1 and not touches_background:
            kinds[index] = Mistake.HOLE_ADDITION if is_cell else Mistake.HOLE_DELETION
        elif num_objects > 1:
            kinds[index] = Mistake.SPLIT if is_cell else Mistake.MERGE
        elif not is_cell:
            kinds[index] = Mistake.HOLE_ADDITION
        elif _parts(labels, here, steps, width, reach, reached, index + 1, queue):
            kinds[index] = Mistake.SPLIT
        else:
            kinds[index] = Mistake.HOLE_DELETION
    return kinds


@numba.njit(cache=True, nogil=True)
def _parts(
    labels: Mask,
    here: int,
    steps: NDArray[np.int64],
    width: int,
    reach: int,
    reached: NDArray[np.int64],
    flood: int,
    queue: NDArray[np.int64],
) -> bool:  # pragma: no cover
    """Tell whether clearing ``here`` parts the cells around it, within the window."""
    row, column = here // width, here % width
    reached[here] = flood  # cleared: the flood may not pass
    wanted, filled = 0, 0
    for step in steps:
        if labels[here + step]:
            wanted += 1
            if filled == 0:
                queue[0] = here + step
                reached[here + step] = flood
                filled = 1
    taken, found = 0, 0
    while taken < filled:
        place = queue[taken]
        taken += 1
        away_y, away_x = place // width - row, place % width - column
        if -1 <= away_y <= 1 and -1 <= away_x <= 1:
            found += 1
            if found == wanted:
                return False
        for k in (1, 3, 5, 7):
            near = place + steps[k]
            if (
                labels[near]
                and reached[near] != flood
                and abs(near // width - row) <= reach
                and abs(near % width - column) <= reach
            ):
                reached[near] = flood
                queue[filled] = near
                filled += 1
    return True
