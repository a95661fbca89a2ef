"""Scores of the Cell Tracking Challenge: SEG, DET and the field of interest.

One :class:`ContingencyTable` a frame is all they need. A computed object S is matched
to a reference object R where it covers more than half of it::

    |R and S| > 0.5 |R|        (so at most one S for each R; one S may match several R)

Sources: Maška et al. 2014, Bioinformatics 30:1609 (SEG); Matula et al. 2015, PLoS ONE
10:e0144959 (AOGM); the organisers' "Evaluation methodology" documents (DET, fields of
interest).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import GeometryError
from unetpipe.metrics.contingency import ContingencyTable, Ids
from unetpipe.metrics.curves import Scores, score_ratio

# Frame edges not annotated, in voxels along y and x; 0 for data sets not listed.
FIELD_BORDER_VOX = {
    "BF-C2DL-HSC": 25,
    "BF-C2DL-MuSC": 25,
    "DIC-C2DH-HeLa": 50,
    "Fluo-C2DL-Huh7": 50,
    "Fluo-C2DL-MSC": 50,
    "Fluo-C3DH-H157": 50,
    "Fluo-C3DL-MDA231": 25,
    "Fluo-N2DH-GOWT1": 50,
    "Fluo-N2DL-HeLa": 25,
    "Fluo-N3DH-CE": 50,
    "Fluo-N3DH-CHO": 50,
    "PhC-C2DH-U373": 50,
    "PhC-C2DL-PSC": 25,
}

SPLIT_COST, MISS_COST, FALSE_COST = 5, 10, 1  # weights of AOGM-D


def field_border_vox(dataset: str | int) -> int:
    """Look up how far the field of interest stays from the frame's edge, in voxels.

    A number of voxels is taken as it is.

    Examples
    --------
    >>> field_border_vox("DIC-C2DH-HeLa"), field_border_vox("Fluo-N2DH-SIM+")
    (50, 0)
    """
    if isinstance(dataset, int):
        return dataset
    return FIELD_BORDER_VOX.get(dataset, 0)


def check_seg_field(shape: tuple[int, ...], border_vox: int) -> None:
    """Raise GeometryError if the field of interest leaves nothing of (y, x) voxels."""
    height, width = shape
    if not 0 <= 2 * border_vox < min(height, width):
        raise GeometryError(
            f"a field border of {border_vox} voxels leaves nothing of a frame of "
            f"{height} x {width} (y, x); use 0 to score the whole frame"
        )


def keep_seg_results(table: ContingencyTable, ids: Ids) -> ContingencyTable:
    """Remove the result objects that ``ids`` does not name, as the table sees it.

    With the ids found inside the field of interest this removes objects with no voxel
    in it; one that reaches into the field stays whole.
    """
    return ContingencyTable.from_pairs(
        table.truth_ids,
        np.where(np.isin(table.result_ids, ids), table.result_ids, np.uint64(0)),
        table.counts,
    )


def keep_seg_references(table: ContingencyTable, ids: Ids) -> ContingencyTable:
    """Remove the reference objects that ``ids`` does not name."""
    return ContingencyTable.from_pairs(
        np.where(np.isin(table.truth_ids, ids), table.truth_ids, np.uint64(0)),
        table.result_ids,
        table.counts,
    )


def drop_outside(table: ContingencyTable, ids: Ids) -> ContingencyTable:
    """Remove markers that ``ids`` does not name, and objects that have no other one.

    A cell whose marker lies outside the field of interest is not annotated, so that an
    object which covers it is neither right nor wrong.
    """
    is_inside = np.isin(table.truth_ids, ids)
    sizes = dict(zip(*table.truth_sizes(), strict=True))
    of_marker = np.array([sizes[i] for i in table.truth_ids])
    is_match = (table.truth_ids != 0) & (2 * table.counts > of_marker)
    inside = table.result_ids[is_match & is_inside]
    outside = np.setdiff1d(table.result_ids[is_match & ~is_inside], inside)
    kept = np.setdiff1d(table.result_ids, outside)
    return keep_seg_references(keep_seg_results(table, kept), ids)


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceMatches:
    """How the result covers each reference object of one or more frames.

    Attributes
    ----------
    jaccard : float64 array, shape (objects,), range [0, 1]
        Intersection over union with the matched object, 0 without a match.
    num_shared : int
        Reference objects that share a computed object, less the computed objects
        shared: the splits that would be needed.
    num_false : int
        Computed objects that match no reference object.
    """

    jaccard: Scores
    num_shared: int
    num_false: int

    @classmethod
    def pooled(cls, frames: Iterable[ReferenceMatches]) -> ReferenceMatches:
        """Pool the objects of many frames."""
        parts = list(frames)
        return cls(
            jaccard=np.concatenate([np.empty(0), *(part.jaccard for part in parts)]),
            num_shared=sum(part.num_shared for part in parts),
            num_false=sum(part.num_false for part in parts),
        )

    @property
    def num_objects(self) -> int:
        """Count the reference objects."""
        return self.jaccard.size

    @property
    def num_missed(self) -> int:
        """Count the reference objects without a match."""
        return int(np.count_nonzero(self.jaccard == 0))

    @property
    def seg(self) -> float:
        """SEG, in [0, 1]: mean Jaccard of all reference objects, NaN if none.

        Computed objects without a match cost nothing, so frames with sparse gold
        annotation may be used: what they leave 0 is unknown and is not counted.
        """
        return float(self.jaccard.mean()) if self.num_objects else math.nan

    @property
    def det(self) -> float:
        """DET, in [0, 1]: 1 - the cost to mend the result over that of starting anew.

        NaN without reference objects. Needs frames where every object is marked
        (the challenge's TRA markers): a computed object elsewhere counts as false.
        """
        return float(detection_score(np.array(self.costs, np.float64)))

    @property
    def costs(self) -> tuple[int, int]:
        """What it costs to mend the result, and to start anew; both add up."""
        mend = (
            SPLIT_COST * self.num_shared
            + MISS_COST * self.num_missed
            + FALSE_COST * self.num_false
        )
        return mend, MISS_COST * self.num_objects


def detection_score(costs: Scores) -> Scores:
    """Return DET of ``ReferenceMatches.costs`` or sums of them, shape (..., 2).

    NaN where starting anew costs nothing.
    """
    mend, anew = costs[..., 0], costs[..., 1]
    return 1 - score_ratio(np.minimum(mend, anew), anew)


def match_seg_references(table: ContingencyTable) -> ReferenceMatches:
    """Match the reference objects of one frame to computed objects.

    Parameters
    ----------
    table : ContingencyTable
        Of the reference (truth) and the result, over the whole frame.

    Examples
    --------
    An object of 4 voxels covered by 3, the result reaching 1 voxel outside:

    >>> truth, result = np.array([0, 1, 1, 1, 1]), np.array([7, 7, 7, 7, 0])
    >>> matches = match_seg_references(ContingencyTable.from_arrays(truth, result))
    >>> matches.seg, matches.det
    (0.6, 1.0)
    """
    truth_ids, truth_sizes = _objects(*table.truth_sizes())
    result_ids, result_sizes = _objects(*table.result_sizes())
    pairs = table.select((table.truth_ids != 0) & (table.result_ids != 0))
    row = np.searchsorted(truth_ids, pairs.truth_ids)
    column = np.searchsorted(result_ids, pairs.result_ids)
    is_match = 2 * pairs.counts > truth_sizes[row]
    row, column, both = row[is_match], column[is_match], pairs.counts[is_match]
    jaccard = np.zeros(truth_ids.size)
    jaccard[row] = both / (truth_sizes[row] + result_sizes[column] - both)
    num_matched_results = np.unique(column).size
    return ReferenceMatches(
        jaccard=jaccard,
        num_shared=row.size - num_matched_results,
        num_false=result_ids.size - num_matched_results,
    )


def _objects(ids: Ids, sizes: NDArray[np.int64]) -> tuple[Ids, NDArray[np.int64]]:
    """Leave out the background."""
    return ids[ids != 0], sizes[ids != 0]
