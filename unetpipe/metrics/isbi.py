"""Scores of the ISBI 2012 challenge, over thresholds, section by section.

::

    stack ──> score_isbi_section (each section) ──> collect_isbi_curves ──> IsbiCurves

Cells are 1 (bright), membranes 0; probability is that of cell. Sections are scored one
by one, so a stack of any length needs the memory of one section.

Sources: Arganda-Carreras et al. 2015, Front. Neuroanat. 9:142; the challenge's scripts
for pixel and Rand error, the metrics of Ronneberger et al. 2015, Table 1. The warping
error is in :mod:`unetpipe.metrics.warping`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

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
from unetpipe.metrics.labelling import (
    Labels,
    PairCounts,
    framed_labels,
    label_columns,
    label_truth,
)
from unetpipe.metrics.rand import RandScores, information_scores, rand_scores
from unetpipe.metrics.scratch import SCATTERED_BYTES, Scratch
from unetpipe.metrics.thinning import check_pair, thin_columns

THRESHOLDS = accumulated_thresholds(1.0)  # 11 values, 0.0 to 0.9999999999999999


@dataclass(frozen=True, slots=True, eq=False)
class IsbiSection:
    """What one section adds to the challenge's scores, at each threshold.

    Attributes
    ----------
    thresholds : float64 array, shape (thresholds,)
    pixels : int64 array, shape (thresholds, 4)
        Cell pixels found, invented, missed; membrane pixels found (TP, FP, FN, TN).
    rand, thinned_rand : float64 arrays, shape (thresholds, 3)
        ``both``, ``truth`` and ``result`` of :class:`RandScores`, for the components
        of the mask and for its thinned cells.
    thinned_v_info : float64 array, shape (thresholds,)
    """

    thresholds: Scores
    pixels: NDArray[np.int64]
    rand: Scores
    thinned_rand: Scores
    thinned_v_info: Scores


@dataclass(frozen=True, slots=True, eq=False)
class IsbiCurves:
    """The challenge's scores of a stack.

    Attributes
    ----------
    pixel_error : ThresholdCurve
        1 - F over cell pixels; pooled micro.
    pixel_disagreement : ThresholdCurve
        Share of pixels on the wrong side, also called pixel error in some papers.
    rand_error : ThresholdCurve
        1 - F of the foreground-restricted Rand index, borders as predicted; micro.
    v_rand, v_rand_split, v_rand_merge : ThresholdCurve
        F, recall and precision of the same after thinning; macro.
    v_info : ThresholdCurve
        Foreground-restricted information score after thinning; macro.
    """

    pixel_error: ThresholdCurve
    pixel_disagreement: ThresholdCurve
    rand_error: ThresholdCurve
    v_rand: ThresholdCurve
    v_rand_split: ThresholdCurve
    v_rand_merge: ThresholdCurve
    v_info: ThresholdCurve


def score_isbi_section(
    probability: NDArray[np.floating[Any]],
    cells: NDArray[np.integer[Any] | np.bool_],
    *,
    thresholds: Scores = THRESHOLDS,
    drawn: NDArray[np.bool_] | None = None,
) -> IsbiSection:
    """Score one section at every threshold.

    Parameters
    ----------
    probability : float array, shape (y, x), range [0, 1]
        Probability of cell.
    cells : bool or integer array, shape (y, x)
        Not 0 inside cells, 0 on membranes: the challenge's binary labels.
    thresholds : float64 array, shape (thresholds,)
    drawn : bool array, shape (y, x), optional
        The cells as they were annotated, where ``cells`` has borders put between those
        that touch: pixels are counted against it.

    Raises
    ------
    GeometryError
        If the arrays are not one section of one shape.
    DataError
        If probability leaves [0, 1], or if cells are instance ids.

    Examples
    --------
    >>> cells = np.array([[1, 1, 0, 1, 1]])
    >>> merged = np.array([[0.9, 0.9, 0.6, 0.9, 0.9]])
    >>> curves = collect_isbi_curves([score_isbi_section(merged, cells)])
    >>> round(curves.rand_error.at(0.5), 6), curves.rand_error.at(0.7)
    (0.333333, 0.0)
    """
    proposal, foreground = check_pair(probability, cells)
    return score_columns(
        Proposal.of(proposal), Truth.of(foreground, drawn), thresholds=thresholds
    )


def score_columns(
    proposal: Proposal, truth: Truth, *, thresholds: Scores = THRESHOLDS
) -> IsbiSection:
    """Do as ``score_isbi_section`` with a section of any size, by all processors.

    Sections above a size wait in files beside the result, where the truth's scratch
    says; memory then does not grow with them.
    """
    # float64 scalars keep the comparison in 64 bits; a plain float would cut it to 32.
    thresholds = np.asarray(thresholds, np.float64)
    cells = label_truth(truth)
    # A map that has few values gives the same mask many times.
    cuts = [proposal.cut(threshold) for threshold in thresholds]
    todo = dict(zip(cuts, thresholds, strict=True))
    counted = score_at_once(
        lambda t: _score_cut(truth, cells, proposal, t), todo.values()
    )
    found = dict(zip(todo, counted, strict=True))
    scored = [found[cut] for cut in cuts]
    return IsbiSection(
        thresholds=thresholds,
        pixels=np.array([one.pixels for one in scored], np.int64),
        rand=np.array([one.rand for one in scored]),
        thinned_rand=np.array([one.thinned_rand for one in scored]),
        thinned_v_info=np.array([one.thinned_v_info for one in scored]),
    )


class _Cut(NamedTuple):
    """What a section gives at one threshold; see ``IsbiSection``."""

    pixels: tuple[int, int, int, int]
    rand: tuple[float, float, float]
    thinned_rand: tuple[float, float, float]
    thinned_v_info: float


def _score_cut(
    truth: Truth, cells: Labels, proposal: Proposal, threshold: np.float64
) -> _Cut:
    columns = truth.columns
    scratch = Scratch(truth.scratch.folder, SCATTERED_BYTES)
    shared = truth.scratch, proposal.scratch
    found = framed_labels(columns, scratch)
    num_hits = num_above = num_drawn = 0

    def mask(piece: slice) -> NDArray[np.bool_]:
        nonlocal num_hits, num_above, num_drawn
        above = proposal.above(piece, threshold)
        num_hits += int(np.count_nonzero(above & truth.drawn[piece]))
        num_above += int(np.count_nonzero(above))
        num_drawn += int(np.count_nonzero(truth.drawn[piece]))
        return above

    ids = label_columns(columns, mask, found, scratch, *shared)
    as_predicted = PairCounts()
    for piece in columns.pieces(scratch, *shared):
        as_predicted.add(cells, found, piece, ids)
    rand = _row(rand_scores(as_predicted.table()))
    num_cells = int(ids[-1])
    del as_predicted, ids
    thin_columns(columns, found, num_cells, scratch)
    thinned = PairCounts()
    for piece in columns.pieces(scratch, *shared):
        thinned.add(cells, found, piece)
    invented, missed = num_above - num_hits, num_drawn - num_hits
    table = thinned.table()
    return _Cut(
        pixels=(num_hits, invented, missed, columns.size - num_above - missed),
        rand=rand,
        thinned_rand=_row(rand_scores(table)),
        thinned_v_info=information_scores(table).f_score,
    )


def collect_isbi_curves(sections: Iterable[IsbiSection]) -> IsbiCurves:
    """Pool what sections contribute into the published scores.

    Raises
    ------
    DataError
        If there is no section, or if sections were scored at different thresholds.
    """
    parts = list(sections)
    at = same_thresholds([part.thresholds for part in parts])
    pixels = np.stack([part.pixels for part in parts]).astype(np.float64)
    rand = np.stack([part.rand for part in parts])
    thinned = np.stack([part.thinned_rand for part in parts])
    v_info = np.stack([part.thinned_v_info for part in parts])
    macro, micro = ThresholdCurve.macro, ThresholdCurve.micro
    return IsbiCurves(
        pixel_error=micro("pixel_error", at, pixels, _pixel_error),
        pixel_disagreement=micro("pixel_disagreement", at, pixels, _disagreement),
        rand_error=micro("rand_error", at, rand, _rand_error),
        v_rand=macro("v_rand", at, _f_score(thinned)),
        v_rand_split=macro(
            "v_rand_split", at, score_ratio(thinned[..., 0], thinned[..., 1])
        ),
        v_rand_merge=macro(
            "v_rand_merge", at, score_ratio(thinned[..., 0], thinned[..., 2])
        ),
        v_info=macro("v_info", at, v_info),
    )


def _pixel_error(counts: Scores) -> Scores:
    """1 - F of (..., 4) counts; 0 where there is no cell and none was predicted."""
    found, invented, missed = counts[..., 0], counts[..., 1], counts[..., 2]
    return 1 - score_ratio(2 * found, 2 * found + invented + missed, undefined=1.0)


def _disagreement(counts: Scores) -> Scores:
    return score_ratio(counts[..., 1] + counts[..., 2], counts.sum(axis=-1))


def _row(scores: RandScores) -> tuple[float, float, float]:
    return scores.both, scores.truth, scores.result


def _rand_error(sums: Scores) -> Scores:
    return 1 - _f_score(sums)


def _f_score(sums: Scores) -> Scores:
    """F of (..., 3) Rand sums: both, truth, result."""
    return score_ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


# How the terms of sections, added up, become the score: to pool what was stored.
SCORES_OF_TERMS = {"pixel_error": _pixel_error, "rand_error": _rand_error}
