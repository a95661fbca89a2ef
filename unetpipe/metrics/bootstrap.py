"""How sure a score is: percentile bootstrap over sections, images or objects.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", Ch. 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetpipe.errors import DataError
from unetpipe.metrics.curves import Scores, ThresholdCurve

MOST_UNITS = 1000  # of which sums are resampled one by one

NUM_RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A score and the range in which resampled data put it.

    Attributes
    ----------
    estimate : float
        The score of the data themselves; NaN if undefined.
    low, high : float
        Ends of the interval; NaN where fewer than two units define a score.
    level : float
        Share of resampled scores between the ends, such as 0.95.
    n : int
        Units (sections, images or objects) that define a score.
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int


def bootstrap_curve(
    curve: ThresholdCurve,
    threshold: float,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Give the interval of a curve's pooled score at one threshold, over sections.

    The threshold is held fixed. Choose it on other data: the interval of a threshold
    chosen on the same sections is too narrow. Where the pooled score is undefined, so
    is the interval.
    """
    if math.isnan(curve.at(threshold)):
        return Interval(math.nan, math.nan, math.nan, level, n=0)
    index = curve.index_of(threshold)
    counts = ~np.isnan(curve.per_section[:, index])
    return bootstrap_sums(
        curve.terms[counts, index],
        curve.score,
        level=level,
        num_resamples=num_resamples,
        seed=seed,
    )


def bootstrap_best(
    curve: ThresholdCurve,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Give the interval of a curve's best score, over sections.

    Each draw chooses its own best threshold, so that the freedom to choose is part of
    the interval.
    """
    is_defined = ~np.isnan(curve.pooled)

    def score(sums: Scores) -> Scores:
        scores = curve.score(sums[..., is_defined, :])
        sign = 1 if curve.higher_is_better else -1
        # A draw may hold undefined sections alone: then it has no best.
        best = np.where(np.isnan(scores), -np.inf, sign * scores).max(
            axis=-1, initial=-np.inf
        )
        return np.where(np.isinf(best), np.nan, sign * best)

    return bootstrap_sums(
        curve.terms, score, level=level, num_resamples=num_resamples, seed=seed
    )


def bootstrap_sums(
    terms: ArrayLike,
    score: Callable[[Scores], Scores],
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Give the interval of a score of sums over sections, images or objects.

    All draws are one product, which is much faster than scoring each.

    Parameters
    ----------
    terms : float array, shape (n, ...)
        What each unit adds. More than a thousand units are first added up at random
        into a thousand groups of equal size, which leaves the spread of a sum as it is.
    score : function
        Takes sums, shape (draws, ...), returns scores, shape (draws,).

    Examples
    --------
    Three hits of four, each hit one unit:

    >>> interval = bootstrap_sums([[1, 1], [1, 1], [0, 1], [1, 1]],
    ...                           lambda sums: sums[..., 0] / sums[..., 1])
    >>> interval.estimate, interval.high, interval.n
    (0.75, 1.0, 4)
    """
    _check_level(level)
    rows = np.asarray(terms, np.float64)
    n = len(rows)
    estimate = float(score(rows.sum(axis=0, keepdims=True))[0]) if n else math.nan
    if n < 2 or math.isnan(estimate):
        return Interval(estimate, math.nan, math.nan, level, n)
    order, weights = _draws(seed, n, num_resamples)
    if order is not None:
        parts = np.array_split(rows[order], MOST_UNITS)
        rows = np.stack([part.sum(axis=0) for part in parts])
    sums = np.tensordot(weights.astype(np.float64), rows, axes=1)
    return _interval(score(sums), estimate, level, n)


@lru_cache(maxsize=32)
def _draws(
    seed: int, n: int, num_resamples: int
) -> tuple[NDArray[np.int64] | None, NDArray[np.uint16]]:
    """Return in which order units are grouped, if they are; and weights of all draws.

    The scores of volumes that are alike ask for the same numbers of units again and
    again, and the draws take longer than all else. Kept: at most 32 of 4 MB with 2000
    resamples.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(n) if n > MOST_UNITS else None
    count = min(n, MOST_UNITS)
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=num_resamples)
    weights = drawn.astype(np.uint16)  # at most MOST_UNITS
    weights.flags.writeable = False
    return order, weights


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise DataError(f"level is {level}, not between 0 and 1; pass 0.95 for 95 %")


def _interval(draws: Scores, estimate: float, level: float, n: int) -> Interval:
    """Take percentiles of the draws that define a score."""
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return Interval(estimate, math.nan, math.nan, level, n)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level, n)
