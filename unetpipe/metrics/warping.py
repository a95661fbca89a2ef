"""The warping error: topological mistakes, forgiving where a border runs.

The truth is warped towards the proposal, voxel by voxel, flipping only *simple* ones:
those whose flip neither splits, merges, creates nor deletes an object or a hole. What
still differs at the end are the topological mistakes::

    truth    proposal   warped truth   what still differs
    ##.##    #.###      #.###          nothing: the border moved
    ##.##    ##.##      ##.##
    ##.##    #####      ##.##          one voxel, it joins two cells: merge
    ##.##    ##.##      ##.##

Sources: Jain et al. 2010, "Boundary Learning by Optimization with Topological
Constraints", CVPR; the challenge's scripts for order, classes and pooling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.columns import Proposal, Truth, score_at_once
from unetpipe.metrics.curves import (
    Scores,
    ThresholdCurve,
    accumulated_thresholds,
    same_thresholds,
    score_ratio,
)
from unetpipe.metrics.simple_points import Mistake, flip_simple_voxels

# DEPARTS: the challenge also tried 0.0 and 0.9999999999999999, where most maps are
# constant. An all-membrane map shrinks every cell to a point and would score 0.
WARPING_THRESHOLDS = accumulated_thresholds(0.9)[1:]


@dataclass(frozen=True, slots=True, eq=False)
class WarpingSection:
    """What one section adds to the warping error, at each threshold.

    Attributes
    ----------
    thresholds : float64 array, shape (thresholds,)
    mistakes : int64 array, shape (thresholds, 7)
        Voxels of each :class:`Mistake`; column 0 counts those without one.
    is_constant : bool array, shape (thresholds,)
        The thresholded map is all cell or all membrane, and the truth is not that.
    is_known : bool array, shape (thresholds,)
        The section was warped at this threshold.
    """

    thresholds: Scores
    mistakes: NDArray[np.int64]
    is_constant: NDArray[np.bool_]
    is_known: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class WarpingCurves:
    """The warping error of a stack, as published and in full.

    Attributes
    ----------
    warping_error : ThresholdCurve
        Share of voxels that split or merge cells. NaN where a section's map is
        constant; a score at such a threshold would be earned by losing all cells.
    classic_warping_error : ThresholdCurve
        Share of voxels with any mistake: also lost and invented cells and holes.
        Read it beside the other at the same threshold.
    mistakes : int64 array, shape (thresholds, 7)
        Voxels of each :class:`Mistake`, all sections together.
    """

    warping_error: ThresholdCurve
    classic_warping_error: ThresholdCurve
    mistakes: NDArray[np.int64]


def warp_columns(
    proposal: Proposal,
    truth: Truth,
    *,
    thresholds: Scores = WARPING_THRESHOLDS,
    only: NDArray[np.bool_] | None = None,
) -> WarpingSection:
    """Count the topological mistakes of one section at every threshold.

    All processors work at it, and the section may have any size.

    Parameters
    ----------
    proposal : Proposal
        Probability of cell.
    truth : Truth
    thresholds : float64 array, shape (thresholds,)
    only : bool array, shape (thresholds,), optional
        At which of them; at the others no mistake is known.
    """
    thresholds = np.asarray(thresholds, np.float64)
    is_known = np.ones(thresholds.size, bool) if only is None else only
    # A map that has few values gives the same mask, in the same order, many times.
    orders = [proposal.order(threshold) for threshold in thresholds[is_known]]
    todo = dict(zip(orders, thresholds[is_known], strict=True))
    counted = score_at_once(
        lambda t: _count_mistakes(truth, proposal, t), todo.values()
    )
    found = dict(zip(todo, counted, strict=True))
    mistakes = np.zeros((thresholds.size, len(Mistake)), np.int64)
    mistakes[is_known] = [found[order][0] for order in orders]
    is_constant = np.zeros(thresholds.size, bool)
    is_constant[is_known] = [found[order][1] for order in orders]
    return WarpingSection(thresholds, mistakes, is_constant, is_known)


def collect_warping(sections: Iterable[WarpingSection]) -> WarpingCurves:
    """Pool the mistakes of sections into the warping error of the stack.

    Raises
    ------
    DataError
        If there is no section, or if sections were warped at different thresholds.
    """
    parts = list(sections)
    thresholds = same_thresholds([part.thresholds for part in parts])
    mistakes = np.stack([part.mistakes for part in parts]).astype(np.float64)
    mistakes[~np.stack([part.is_known for part in parts])] = np.nan
    usable = mistakes.copy()
    usable[np.stack([part.is_constant for part in parts])] = np.nan
    return WarpingCurves(
        warping_error=ThresholdCurve.micro(
            "warping_error", thresholds, usable, _split_or_merge
        ),
        classic_warping_error=ThresholdCurve.micro(
            "classic_warping_error", thresholds, mistakes, _any_mistake
        ),
        mistakes=np.nan_to_num(mistakes.sum(axis=0)).astype(np.int64),
    )


def _count_mistakes(
    truth: Truth, proposal: Proposal, threshold: np.float64
) -> tuple[NDArray[np.int64], bool]:
    """Count the voxels of each mistake; tell whether the map is constant there."""
    num_above = num_wrong = 0
    for piece in truth.columns.pieces(truth.scratch, proposal.scratch):
        mask = proposal.above(piece, threshold)
        num_above += int(np.count_nonzero(mask))
        num_wrong += int(np.count_nonzero(mask != truth.cells[piece]))
    counts = np.zeros(len(Mistake), np.int64)
    warped = flip_simple_voxels(truth, proposal, threshold)
    for _, kinds in warped.kinds():
        counts += np.bincount(kinds, minlength=counts.size)
    counts[Mistake.NONE] += truth.columns.size - counts.sum()
    return counts, num_above in (0, truth.columns.size) and num_wrong > 0


def _split_or_merge(mistakes: Scores) -> Scores:
    wrong = mistakes[..., Mistake.SPLIT] + mistakes[..., Mistake.MERGE]
    return score_ratio(wrong, mistakes.sum(axis=-1))


def _any_mistake(mistakes: Scores) -> Scores:
    total = mistakes.sum(axis=-1)
    return score_ratio(total - mistakes[..., Mistake.NONE], total)


# How the terms of sections, added up, become the score: to pool what was stored.
SCORES_OF_TERMS = {
    "warping_error": _split_or_merge,
    "classic_warping_error": _any_mistake,
}
