"""Tracks of all objects of a sequence, frame by frame, and what they descend from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unetpipe.tracking.divisions import find_divisions
from unetpipe.tracking.frames import (
    Frame,
    Ids,
    Objects,
    join_frame_objects,
    objects_of_frame,
    remember_lost_objects,
)
from unetpipe.tracking.links import (
    Pairs,
    assign,
    find_linked_pairs,
    object_reach,
    overlaps_of_frames,
)

NEW, STEP, GAP, DIVISION = range(4)
FLEETING = 2  # frames


@dataclass(frozen=True, slots=True)
class Motion:
    """How objects may go on from frame to frame.

    Attributes
    ----------
    reach : float or None
        How far they move, in lengths of the shorter edge of a voxel; None: as far as
        the median object of the two frames is wide.
    longest_gap : int
        Frames for which one may be lost.
    divides : bool
        Whether one may become two.
    """

    reach: float | None = None
    longest_gap: int = 2
    divides: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Tracks 1, 2, ... in the order of their first objects; a row each, 0 is none.

    Attributes
    ----------
    of_objects : int64 array, shape (objects + 1,)
        The track of each object, by its id; 0 of one that was never seen.
    frames : int64 array, shape (objects + 1,)
        The frame of each object; -1 of one that was never seen.
    first, last : int64 arrays, shape (tracks + 1,)
        Frames; a track is in all between them.
    parents : int64 array, shape (tracks + 1,)
        Tracks that ended before; 0 of what descends from nobody.
    begins : uint8 array, shape (tracks + 1,)
        ``NEW``, ``GAP``: goes on with its parent after some frames, ``DIVISION``.
    """

    of_objects: Ids
    frames: Ids
    first: Ids
    last: Ids
    parents: Ids
    begins: NDArray[np.uint8]

    @property
    def num_tracks(self) -> int:
        """Count the tracks."""
        return len(self.first) - 1


class Tracker:
    """Links the objects of frames that come in rising order; keeps two frames.

    Parameters
    ----------
    num_objects : int
        Ids are 1 to this, rising from frame to frame, and each is in one frame.
    edges : (float, float)
        Edges of a voxel along y and x over the shorter of both.
    motion : Motion
    """

    def __init__(
        self, num_objects: int, edges: tuple[float, float], motion: Motion
    ) -> None:
        self._edges, self._motion = edges, motion
        self._before = np.zeros(num_objects + 1, np.int64)
        self._how = np.zeros(num_objects + 1, np.uint8)
        self._frames = np.full(num_objects + 1, -1)
        self._objects = Objects.none()
        self._seen: Frame | None = None
        self._number = -1

    def see(self, frame: Frame) -> None:
        """Link the objects of the next frame, shape (y, x)."""
        self._number += 1
        new = objects_of_frame(frame, self._edges)
        self._frames[new.ids] = self._number
        old, self._objects = self._objects, new
        lost = old
        if self._seen is not None and len(old):
            lost = self._link(old, new, self._seen, frame)
        lost = lost.take(lost.ages < self._motion.longest_gap)
        self._seen = (
            frame
            if self._seen is None
            else remember_lost_objects(self._seen, frame, lost.ids)
        )
        self._objects = join_frame_objects(self._objects, lost.older())

    def _link(self, old: Objects, new: Objects, seen: Frame, frame: Frame) -> Objects:
        """Link two frames; return what of the first is not in the second."""
        overlaps = overlaps_of_frames(seen, frame)
        reach = self._motion.reach or object_reach(old, new)
        pairs = find_linked_pairs(old, new, overlaps, reach)
        linked = assign(pairs, len(old), len(new))
        is_late = old.ages[linked.before] > 0
        self._note(old, new, linked, np.where(is_late, GAP, STEP))
        steps = np.zeros_like(new.places)
        steps[linked.after] = new.places[linked.after] - old.places[linked.before]
        steps[linked.after] /= 1 + old.ages[linked.before, None]
        if self._motion.divides:
            born = find_divisions(old, new, linked, overlaps, reach)
            mothers = np.isin(linked.before, born.before)
            self._note(old, new, born, DIVISION)
            self._note(old, new, linked.select(mothers), DIVISION)
            steps[linked.after[mothers]] = 0
        self._objects = new.moved(steps)
        return old.take(np.setdiff1d(np.arange(len(old)), linked.before))

    def _note(
        self, old: Objects, new: Objects, pairs: Pairs, how: int | NDArray[np.int64]
    ) -> None:
        ids = new.ids[pairs.after]
        self._before[ids] = old.ids[pairs.before]
        self._how[ids] = how

    def tracks(self) -> Tracks:
        """Return the tracks of all frames that were seen.

        A division of which one half is gone after ``FLEETING`` frames was none: the
        other half goes on as the mother.
        """
        self._take_back(self._number_tracks())
        return self._number_tracks()

    def _take_back(self, tracks: Tracks) -> None:
        """Make no divisions of objects that fell apart for a moment."""
        frames = tracks.last - tracks.first + 1
        is_gone = (tracks.begins == DIVISION) & (frames <= FLEETING)
        is_gone[tracks.parents] = False  # it became something else
        is_gone &= tracks.last < self._number
        born = np.flatnonzero(self._how == DIVISION)
        gone = born[is_gone[tracks.of_objects[born]]]
        mothers, counts = np.unique(self._before[gone], return_counts=True)
        one = mothers[counts == 1]
        halves = born[np.isin(self._before[born], one)]
        self._how[halves] = STEP
        fleeting = np.intersect1d(halves, gone)
        self._how[fleeting] = NEW
        self._before[fleeting] = 0

    def _number_tracks(self) -> Tracks:
        is_seen = self._frames >= 0
        starts = is_seen & (self._how != STEP)
        tracks = np.cumsum(starts) * starts
        order = np.argsort(self._frames, kind="stable")
        steps = order[(self._how == STEP)[order] & is_seen[order]]
        ends = np.searchsorted(self._frames[steps], np.arange(self._number + 2))
        for first, last in pairwise(ends):
            tracks[steps[first:last]] = tracks[self._before[steps[first:last]]]
        num = int(starts.sum())
        first = np.zeros(num + 1, np.int64)
        last, parents, begins = first.copy(), first.copy(), first.astype(np.uint8)
        first[tracks[starts]] = self._frames[starts]
        np.maximum.at(last, tracks[is_seen], self._frames[is_seen])
        parents[tracks[starts]] = tracks[self._before[starts]]
        begins[tracks[starts]] = self._how[starts]
        return Tracks(tracks, self._frames, first, last, parents, begins)
