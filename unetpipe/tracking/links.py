"""Which object of a frame is which of the next: a linear assignment of few pairs.

A pair costs, where its Jaccard index is ``LEAST_OVERLAP`` or more,

    1 - |A and B| / |A or B|

and else, if it is not more than 2,

    1 + sqrt((distance / reach)^2 + (log2(|B| / |A|) / 2)^2)

so that what overlaps is linked before what is near. The distance is that to where an
object was, or where its last step would bring it, whichever is less. Leaving two alone
costs 2: whatever may be linked is, and the sum is the least. What was lost for some
frames pays ``LOST`` for each. After Jaqaman et al. 2008, doi:10.1038/nmeth.1237.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.tracking.frames import Frame, Ids, Numbers, Objects

LEAST_OVERLAP = 0.1  # Jaccard index
ALONE = 2.0
LOST = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Rows of two sets of objects that may belong together, and what that costs."""

    before: Ids
    after: Ids
    costs: Numbers

    def select(self, rows: NDArray[np.bool_]) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.before[rows], self.after[rows], self.costs[rows])


def object_reach(before: Objects, after: Objects) -> float:
    """Return the median width of objects: few move farther from frame to frame."""
    widths = np.concatenate([before.widths, after.widths])
    return float(np.median(widths)) if widths.size else 0.0


def find_linked_pairs(
    before: Objects, after: Objects, overlaps: ContingencyTable, reach: float
) -> Pairs:
    """Return all pairs that overlap or lie within reach, with their costs.

    Parameters
    ----------
    before, after : Objects
        Of the frame that was seen, with lost ones, and of the new one.
    overlaps : ContingencyTable
        Voxels that both share, without background.
    reach : float
        How far an object moves from frame to frame, in lengths of the shorter edge.
    """
    a, b, shared = find_neighbours_in_next_frame(before, after, overlaps, reach)
    jaccard = shared / (before.voxels[a] + after.voxels[b] - shared)
    moved = after.places[b] - before.places[a]
    distance = np.minimum(
        np.linalg.norm(moved, axis=1), np.linalg.norm(moved - before.steps[a], axis=1)
    )
    growth = np.log2(after.voxels[b] / before.voxels[a])
    apart = 1 + np.hypot(distance / (reach or 1.0), growth / 2)
    costs = np.where(jaccard >= LEAST_OVERLAP, 1 - jaccard, apart)
    pairs = Pairs(a, b, costs + LOST * before.ages[a])
    return pairs.select(pairs.costs <= ALONE)


def find_neighbours_in_next_frame(
    before: Objects, after: Objects, overlaps: ContingencyTable, reach: float
) -> tuple[Ids, Ids, Ids]:
    """Return rows before, rows after and shared voxels of all that overlap or are near.

    Sorted, without repeats.
    """
    touching = np.stack(
        [before.rows_of(overlaps.truth_ids), after.rows_of(overlaps.result_ids)], axis=1
    )
    near = [
        _within(before.places + steps, after.places, reach)
        for steps in (np.zeros_like(before.steps), before.steps)
    ]
    found = np.unique(np.concatenate([touching, *near]), axis=0)
    keys, shared = found @ (len(after), 1), np.zeros(len(found), np.int64)
    shared[np.searchsorted(keys, touching @ (len(after), 1))] = overlaps.counts
    return found[:, 0], found[:, 1], shared


def _within(before: Numbers, after: Numbers, reach: float) -> Ids:
    """Return the pairs of places within reach of each other, shape (pairs, 2)."""
    if not len(before) or not len(after):
        return np.empty((0, 2), np.int64)
    lists = cKDTree(after).query_ball_point(before, reach, return_sorted=True)
    rows = np.repeat(np.arange(len(before)), [len(found) for found in lists])
    columns = np.concatenate([np.asarray(found, np.int64) for found in lists])
    return np.stack([rows, columns], axis=1)


def assign(pairs: Pairs, num_before: int, num_after: int) -> Pairs:
    """Return the pairs of the least sum, each row at most once on either side."""
    if not pairs.before.size:
        return pairs
    rows = np.arange(num_before)
    before = np.concatenate([pairs.before, rows])
    after = np.concatenate([pairs.after, num_after + rows])
    # Each row may be left alone; weights of 0 would be no edges.
    matrix = coo_array(
        (
            np.concatenate([pairs.costs + 1, np.full(num_before, ALONE + 1)]),
            (before.astype(np.int32), after.astype(np.int32)),  # SciPy takes no others
        ),
        shape=(num_before, num_after + num_before),
    ).tocsr()
    before, after = min_weight_full_bipartite_matching(matrix)
    is_linked = after < num_after
    chosen = before[is_linked] * num_after + after[is_linked]
    return pairs.select(np.isin(pairs.before * num_after + pairs.after, chosen))


def overlaps_of_frames(seen: Frame, new: Frame) -> ContingencyTable:
    """Count the voxels that objects of two frames share, without background."""
    table = ContingencyTable.from_arrays(seen, new)
    return table.select((table.truth_ids != 0) & (table.result_ids != 0))
