"""Warp a binary section by flipping simple points, and classify what remains.

Work happens on flattened sections (x, y) with a frame of one voxel, so that a voxel's
neighbours lie at fixed steps. The eight neighbours are numbered around the ring::

    0 1 2
    7 . 3
    6 5 4

Only voxels that differ at the beginning are ever flipped, so a section is its labels,
one byte a voxel, and a list of places in the order of their urgency.

Foreground is 4-connected, background 8-connected.
Source: Jain et al. 2010; see :mod:`unetpipe.metrics.warping`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.columns import PIECE_VOXELS, Proposal, Truth
from unetpipe.metrics.labelling import (
    UNTOUCHED,
    Labels,
    Numbers,
    framed_labels,
    label_columns,
)
from unetpipe.metrics.scratch import BLOCK_BYTES, SCATTERED_BYTES, Scratch

Mask = NDArray[np.bool_]
State = NDArray[np.uint8]  # bit 0: cell; bit 1: not simple as long as nothing changes
Places = NDArray[np.int64]
Words = NDArray[np.uint64]

WINDOW_VOX = 20  # a split is judged within this many voxels to each side, at most 31
SCATTERED_PLACES = 1 << 12  # of floats, looked at before memory is handed back

_CELL, _CLOSED = 1, 2
_NONE, _ONE, _THREE = np.uint64(0), np.uint64(1), np.uint64(7)  # bits of a word
_MORE_JUMPS = 8  # of one byte a voxel, most neighbours lie in the same block
_DIGIT_BITS = 16


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


def flip_simple_voxels(
    truth: Truth, proposal: Proposal, threshold: np.float64
) -> WarpedSection:
    """Flip simple voxels of the truth until it is as close to the proposal as can be.

    Voxels that differ are tried in descending order of their probability's distance to
    the threshold, equal ones by x then y; the result depends on the order.

    Parameters
    ----------
    truth : Truth
    proposal : Proposal
        Of the same columns.
    threshold : float64
        Above it is cell.
    """
    scratch = Scratch(truth.scratch.folder)
    scattered = Scratch(truth.scratch.folder, SCATTERED_BYTES)
    state = scattered.zeros(truth.columns.framed, np.uint8)
    for piece in truth.columns.pieces(scattered, truth.scratch):
        state[piece.start + 1 : piece.stop + 1, 1:-1] = truth.cells[piece]
    places = _sort_places(truth, proposal, threshold, scratch)
    pending, flipped = places.size, True
    while flipped:
        kept, flipped, start = 0, False, 0
        while start < pending:
            start, kept, has_flipped = _flip_simple(
                state.reshape(-1),
                places,
                (start, min(start + PIECE_VOXELS, pending), kept),
                state.shape[1],
                IS_SIMPLE,
                _MORE_JUMPS * scattered.most_jumps,
            )
            flipped |= has_flipped
            scratch.forget()
            scattered.forget()
        pending = kept
    return WarpedSection(proposal, threshold, state, scattered)


class WarpedSection:
    """A warped truth, and where it still differs from the proposal.

    Attributes
    ----------
    proposal : Proposal
    threshold : float64
    state : uint8 array, shape (x + 2, y + 2)
        Odd inside cells.
    scratch : Scratch
        Where that lies.
    """

    def __init__(
        self,
        proposal: Proposal,
        threshold: np.float64,
        state: State,
        scratch: Scratch,
    ) -> None:
        self.proposal, self.threshold = proposal, threshold
        self.state, self.scratch = state, scratch

    @property
    def is_cell(self) -> Mask:
        """The warped truth, shape (y, x)."""
        columns = self.proposal.columns
        return np.ascontiguousarray(self._cells(slice(0, columns.width)).T)

    def kinds(self) -> Iterator[tuple[Places, NDArray[np.uint8]]]:
        """Yield where the two differ, as indices of the flattened state, and why.

        Yields
        ------
        places : int64 array
        kinds : uint8 array
            The :class:`Mistake` at each.
        """
        columns, scratch = self.proposal.columns, Scratch(self.scratch.folder)
        labels = framed_labels(columns, scratch)
        ids = label_columns(columns, self._cells, labels, scratch, self.scratch)
        for piece in columns.pieces(scratch, self.scratch, self.proposal.scratch):
            above = self.proposal.above(piece, self.threshold)
            x, y = np.nonzero(above != self._cells(piece))
            places = (x + piece.start + 1) * (columns.height + 2) + y + 1
            yield (
                places,
                _classify(
                    self.state.reshape(-1),
                    labels.reshape(-1),
                    ids,
                    places,
                    (self.state.shape[1], WINDOW_VOX),
                ),
            )

    def _cells(self, piece: slice) -> Mask:
        state = self.state[piece.start + 1 : piece.stop + 1, 1:-1]
        return np.asarray(state & _CELL != 0)


def _sort_places(
    truth: Truth, proposal: Proposal, threshold: np.float64, scratch: Scratch
) -> Places:
    """List what differs, the most urgent first: sorted by counting, digit by digit."""
    ranks = None if proposal.values is None else proposal.urgency(threshold)
    shifts = (0,) if ranks is not None else range(0, 64, _DIGIT_BITS)

    def digits(of: NDArray[Any], shift: int) -> NDArray[np.uint16]:
        if ranks is not None:
            return np.take(ranks, of)
        urgency = ~np.abs(of - threshold).view(np.uint64)  # rises as distance falls
        return (urgency >> np.uint64(shift)).astype(np.uint16)

    def of_section(shift: int) -> Iterator[tuple[Places, NDArray[np.uint16]]]:
        for piece in truth.columns.pieces(scratch, truth.scratch, proposal.scratch):
            wrong = proposal.above(piece, threshold) != truth.cells[piece]
            x, y = np.nonzero(wrong)
            places = (x + piece.start + 1) * (truth.columns.height + 2) + y + 1
            yield places, digits(proposal.levels[piece][wrong], shift)

    def of_places(
        places: Places, shift: int
    ) -> Iterator[tuple[Places, NDArray[np.uint16]]]:
        for start in range(0, places.size, SCATTERED_PLACES):
            some = places[start : start + SCATTERED_PLACES]
            x, y = np.divmod(some, truth.columns.height + 2)
            yield some, digits(proposal.levels[x - 1, y - 1], shift)
            scratch.forget()
            proposal.scratch.forget()

    places: Places | None = None
    for shift in shifts:
        counts = np.zeros(1 << _DIGIT_BITS, np.int64)
        for _, found in (
            of_section(shift) if places is None else of_places(places, shift)
        ):
            counts += np.bincount(found, minlength=counts.size)
        if places is not None and counts.max() == places.size:
            continue  # all alike
        offsets = np.cumsum(counts) - counts
        ordered = scratch.zeros((int(counts.sum()),), np.int64)
        for some, found in (
            of_section(shift) if places is None else of_places(places, shift)
        ):
            _distribute(some, found, offsets, ordered)
        places = ordered
    assert places is not None
    return places


@numba.njit(cache=True, nogil=True)
def _distribute(
    places: Places, digits: NDArray[np.uint16], offsets: Places, ordered: Places
) -> None:  # pragma: no cover
    for index in range(places.size):
        digit = digits[index]
        ordered[offsets[digit]] = places[index]
        offsets[digit] += 1


@numba.njit(cache=True, nogil=True)
def _ring_steps(height: int) -> NDArray[np.int64]:  # pragma: no cover
    return np.array(
        (-height - 1, -height, -height + 1, 1, height + 1, height, height - 1, -1)
    )


@numba.njit(cache=True, nogil=True)
def _flip_simple(
    state: State,
    places: Places,
    part: tuple[int, int, int],
    height: int,
    is_simple: Mask,
    most_jumps: int,
) -> tuple[int, int, bool]:  # pragma: no cover
    """Sweep over some places in order, flip simple ones, move the others forward.

    What was not simple is looked at again only after a neighbour was flipped: nothing
    else can have changed it.
    """
    steps = _ring_steps(height)
    index, stop, kept = part
    flipped = False
    num_jumps, last, before = 0, 0, 0
    while index < stop and num_jumps < most_jumps:
        here = places[index]
        index += 1
        block = here // BLOCK_BYTES
        if block != last:
            num_jumps += block != before
            before, last = last, block
        if not state[here] & _CLOSED:
            code = 0
            for k in range(8):
                code |= (state[here + steps[k]] & _CELL) << k
            if is_simple[code]:
                state[here] ^= _CELL
                flipped = True
                for k in range(8):
                    state[here + steps[k]] &= _CELL
                continue
            state[here] |= _CLOSED
        places[kept] = here
        kept += 1
    return index, kept, flipped


@numba.njit(cache=True, nogil=True)
def _classify(
    state: State,
    labels: Labels,
    ids: Numbers,
    places: Places,
    sides: tuple[int, int],
) -> NDArray[np.uint8]:  # pragma: no cover
    """Name the mistake at each place from the objects around it."""
    height, reach = sides
    steps = _ring_steps(height)
    kinds = np.empty(places.size, np.uint8)
    window, reached = np.empty((2, 2 * reach + 1), np.uint64)
    for index in range(places.size):
        here = places[index]
        touches_background = False
        num_objects, first = 0, 0
        for step in steps:
            near = labels[here + step]
            if near == UNTOUCHED:
                touches_background = True
            elif near > 0:
                near = ids[near]
                if num_objects == 0:
                    num_objects, first = 1, near
                elif near != first:
                    num_objects = 2  # or more: all the same below
        is_cell = state[here] & _CELL
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
        elif _parts(state, here, sides, window, reached):
            kinds[index] = Mistake.SPLIT
        else:
            kinds[index] = Mistake.HOLE_DELETION
    return kinds


@numba.njit(cache=True, nogil=True)
def _parts(
    state: State, here: int, sides: tuple[int, int], window: Words, reached: Words
) -> bool:  # pragma: no cover
    """Tell whether clearing ``here`` parts the cells around it, within the window.

    A column of the window is a word with a bit for each voxel, so that a flood takes a
    column at a time. Columns are read when it comes to them.
    """
    reach = sides[1]
    start, stop = reach - 1, reach + 2  # of the columns that were read
    for column in range(start, stop):
        window[column], reached[column] = _read(state, here, sides, column), _NONE
    window[reach] &= ~(_ONE << np.uint64(reach))  # cleared: the flood may not pass
    ring = _THREE << np.uint64(reach - 1)
    for column in range(start, stop):
        around = window[column] & ring
        if around:
            reached[column] = around & (~around + _ONE)  # one of them
            break
    is_growing, step = True, 1
    while is_growing:
        is_growing = False
        column = start if step > 0 else stop - 1
        while start <= column < stop:
            seeds = reached[column]
            if column > start:
                seeds |= reached[column - 1]
            if column < stop - 1:
                seeds |= reached[column + 1]
            filled = _fill(window[column], seeds & window[column])
            if filled != reached[column]:
                reached[column], is_growing = filled, True
            if filled and column == start and start > 0:
                start, is_growing = start - 1, True
                window[start], reached[start] = _read(state, here, sides, start), _NONE
            if filled and column == stop - 1 and stop <= 2 * reach:
                window[stop], reached[stop] = _read(state, here, sides, stop), _NONE
                stop, is_growing = stop + 1, True
            column += step
        step = -step
        num_left = 0
        for column in range(reach - 1, reach + 2):
            num_left += (window[column] & ~reached[column] & ring) != _NONE
        if num_left == 0:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _read(
    state: State, here: int, sides: tuple[int, int], column: int
) -> np.uint64:  # pragma: no cover
    """Return which voxels of a column of the window are cells, the first lowest."""
    height, reach = sides
    y = here % height
    low, high = max(y - reach, 0), min(y + reach + 1, height)
    first = here - y + (column - reach) * height
    word = _NONE
    for place in range(low, high):
        is_cell = np.uint64(state[first + place] & _CELL)
        word |= is_cell << np.uint64(place - y + reach)
    return word


@numba.njit(cache=True, nogil=True)
def _fill(mask: np.uint64, seeds: np.uint64) -> np.uint64:  # pragma: no cover
    """Return the runs of a mask's bits that have a seed."""
    filled = seeds | ((mask + seeds) ^ mask) & mask  # a carry runs to the end
    for power in range(6):  # and doubled steps to the beginning
        shift = _ONE << np.uint64(power)
        filled |= mask & (filled >> shift)
        mask &= mask >> shift
    return filled
