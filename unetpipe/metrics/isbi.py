"""Scores of the ISBI 2012 challenge, over thresholds, section by section.

::

    stack ──> score_section (one call a section) ──> collect_curves ──> IsbiCurves

Cells are 1 (bright), membranes 0; probability is that of cell. Sections are scored one
by one, so a stack of any length needs the memory of one section.

Sources: Arganda-Carreras et al. 2015, Front. Neuroanat. 9:142; the challenge's scripts
for pixel and Rand error, the metrics of Ronneberger et al. 2015, Table 1. The warping
error is in :mod:`unetpipe.metrics.warping`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.curves import (
    Scores,
    ThresholdCurve,
    accumulated_thresholds,
    same_thresholds,
    share_of,
)
from unetpipe.metrics.rand import RandScores, information_scores, rand_scores
from unetpipe.metrics.thinning import check_pair, label_components, thin_borders

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


def score_section(
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
    >>> curves = collect_curves([score_section(merged, cells)])
    >>> round(curves.rand_error.at(0.5), 6), curves.rand_error.at(0.7)
    (0.333333, 0.0)
    """
    proposal, foreground = check_pair(probability, cells)
    # float64 scalars keep the comparison in 64 bits; a plain float would cut it to 32.
    thresholds = np.asarray(thresholds, np.float64)
    truth = label_components(foreground)
    pixels, rand, thinned_rand, v_info = [], [], [], []
    for threshold in thresholds:
        mask = proposal > threshold
        pixels.append(_count_pixels(mask, foreground if drawn is None else drawn))
        table = ContingencyTable.from_arrays(
            truth, label_components(mask), where=foreground
        )
        rand.append(_row(rand_scores(table)))
        table = ContingencyTable.from_arrays(
            truth, thin_borders(mask), where=foreground
        )
        thinned_rand.append(_row(rand_scores(table)))
        v_info.append(information_scores(table).f_score)
    return IsbiSection(
        thresholds=thresholds,
        pixels=np.array(pixels, np.int64),
        rand=np.array(rand),
        thinned_rand=np.array(thinned_rand),
        thinned_v_info=np.array(v_info),
    )


def collect_curves(sections: Iterable[IsbiSection]) -> IsbiCurves:
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
            "v_rand_split", at, share_of(thinned[..., 0], thinned[..., 1])
        ),
        v_rand_merge=macro(
            "v_rand_merge", at, share_of(thinned[..., 0], thinned[..., 2])
        ),
        v_info=macro("v_info", at, v_info),
    )


def _count_pixels(
    mask: NDArray[np.bool_], foreground: NDArray[np.bool_]
) -> tuple[int, int, int, int]:
    """Count TP, FP, FN, TN of cell pixels."""
    found = int(np.count_nonzero(mask & foreground))
    invented = int(np.count_nonzero(mask)) - found
    missed = int(np.count_nonzero(foreground)) - found
    return found, invented, missed, mask.size - found - invented - missed


def _pixel_error(counts: Scores) -> Scores:
    """1 - F of (..., 4) counts; 0 where there is no cell and none was predicted."""
    found, invented, missed = counts[..., 0], counts[..., 1], counts[..., 2]
    return 1 - share_of(2 * found, 2 * found + invented + missed, undefined=1.0)


def _disagreement(counts: Scores) -> Scores:
    return share_of(counts[..., 1] + counts[..., 2], counts.sum(axis=-1))


def _row(scores: RandScores) -> tuple[float, float, float]:
    return scores.both, scores.truth, scores.result


def _rand_error(sums: Scores) -> Scores:
    return 1 - _f_score(sums)


def _f_score(sums: Scores) -> Scores:
    """F of (..., 3) Rand sums: both, truth, result."""
    return share_of(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


# How the terms of sections, added up, become the score: to pool what was stored.
SCORES_OF_TERMS = {"pixel_error": _pixel_error, "rand_error": _rand_error}
