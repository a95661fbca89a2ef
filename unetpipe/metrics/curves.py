"""A score as a function of the threshold at which probability becomes a mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError

Scores = NDArray[np.float64]

_SAME_SCORE = 1e-12
SAME_THRESHOLD = 1e-9  # 0.1 added eight times is 0.7999999999999999


class ThresholdScore(NamedTuple):
    """A score and the threshold it was reached at; both NaN if undefined."""

    threshold: float
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdCurve:
    """One metric at every threshold, for each section and for all together.

    Attributes
    ----------
    metric : str
        Its name, as in ``metrics.json``.
    thresholds : float64 array, shape (thresholds,)
        Ascending; a voxel is cell where its probability is greater.
    per_section : float64 array, shape (sections, thresholds)
        NaN where a section defines no score, such as one without cells.
    pooled : float64 array, shape (thresholds,)
        The published score of the stack; ``pooling`` says how it came about.
    pooling : str
        "micro": counts were added over sections, then divided. "macro": the mean of
        the sections that define a score.
    higher_is_better : bool
        False for errors.
    terms : float64 array, shape (sections, thresholds, kinds)
        What the sections contribute, for resampling them: it adds up.
    score : function
        Turns sums of terms, shape (..., kinds), into scores, shape (...).

    Examples
    --------
    >>> curve = ThresholdCurve.macro(
    ...     "v_rand", np.array([0.4, 0.5]), np.array([[0.75, 0.5], [0.25, 1.0]])
    ... )
    >>> curve.best()
    ThresholdScore(threshold=0.5, score=0.75)
    >>> curve.at(0.4)
    0.5
    """

    metric: str
    thresholds: Scores
    per_section: Scores
    pooled: Scores
    pooling: str
    higher_is_better: bool
    terms: Scores
    score: Callable[[Scores], Scores]

    @classmethod
    def macro(
        cls,
        metric: str,
        thresholds: Scores,
        per_section: Scores,
        *,
        higher_is_better: bool = True,
    ) -> ThresholdCurve:
        """Make the curve of a score that is averaged over sections."""
        return cls(
            metric=metric,
            thresholds=thresholds,
            per_section=per_section,
            pooled=mean_of_defined(per_section),
            pooling="macro",
            higher_is_better=higher_is_better,
            terms=_terms_of_mean(per_section),
            score=mean_of_sums,
        )

    @classmethod
    def micro(
        cls,
        metric: str,
        thresholds: Scores,
        counts: Scores,
        score: Callable[[Scores], Scores],
        *,
        higher_is_better: bool = False,
    ) -> ThresholdCurve:
        """Make the curve of a score of counts that add up over sections.

        Parameters
        ----------
        counts : float64 array, shape (sections, thresholds, kinds)
        score : function
            Takes counts of shape (..., kinds), returns scores of shape (...).
        """
        return cls(
            metric=metric,
            thresholds=thresholds,
            per_section=score(counts),
            pooled=score(counts.sum(axis=0)),
            pooling="micro",
            higher_is_better=higher_is_better,
            terms=counts,
            score=score,
        )

    def best(self) -> ThresholdScore:
        """Find the best pooled score; of a draw the threshold nearest to 0.5 wins."""
        if np.isnan(self.pooled).all():
            return ThresholdScore(math.nan, math.nan)
        sign = 1.0 if self.higher_is_better else -1.0
        index = pick_threshold(self.thresholds, sign * self.pooled)
        return ThresholdScore(float(self.thresholds[index]), float(self.pooled[index]))

    def at(self, threshold: float) -> float:
        """Return the pooled score at one of the curve's thresholds."""
        return float(self.pooled[self.index_of(threshold)])

    def sections_at(self, threshold: float) -> Scores:
        """Return the score of each section, shape (sections,), NaN if undefined."""
        values: Scores = self.per_section[:, self.index_of(threshold)]
        return values

    def has(self, threshold: float) -> bool:
        """Say whether the curve was computed at a threshold."""
        return bool((np.abs(self.thresholds - threshold) <= SAME_THRESHOLD).any())

    def index_of(self, threshold: float) -> int:
        """Find a threshold in the curve.

        Raises
        ------
        DataError
            If the curve was not computed there.
        """
        distance = np.abs(self.thresholds - threshold)
        index = int(distance.argmin())
        if distance[index] > SAME_THRESHOLD:
            raise DataError(
                f"{self.metric} was not computed at threshold {threshold}; "
                f"use one of {self.thresholds.round(6).tolist()}"
            )
        return index


def pick_threshold(thresholds: Scores, scores: Scores) -> int:
    """Return where the highest score lies; of a draw, nearest to a threshold of 0.5.

    Both have shape (thresholds,); scores may be NaN, but not all of them.
    """
    is_best = scores >= np.nanmax(scores) - _SAME_SCORE
    distance = np.where(is_best, np.abs(thresholds - 0.5).round(9), np.inf)
    return int(distance.argmin())


def _terms_of_mean(per_section: Scores) -> Scores:
    """Return the scores, 0 where undefined, and 1 where defined: (..., 2)."""
    is_defined = ~np.isnan(per_section)
    return np.stack([np.where(is_defined, per_section, 0.0), is_defined], axis=-1)


def mean_of_sums(sums: Scores) -> Scores:
    """Turn sums of scores and of how many are defined into means."""
    return score_ratio(sums[..., 0], sums[..., 1])


def mean_of_defined(per_section: Scores) -> Scores:
    """Average over sections, leaving out NaN; NaN where no section is defined."""
    is_defined = ~np.isnan(per_section)
    num_defined = is_defined.sum(axis=0)
    total = np.where(is_defined, per_section, 0.0).sum(axis=0)
    return np.where(num_defined > 0, total / np.maximum(num_defined, 1), np.nan)


def score_ratio(part: Scores, whole: Scores, *, undefined: float = math.nan) -> Scores:
    """Divide, with ``undefined`` where the denominator is 0."""
    shares = np.full(np.broadcast(part, whole).shape, undefined)
    np.divide(part, whole, out=shares, where=np.asarray(whole) != 0)
    return shares


def same_thresholds(thresholds: Sequence[Scores]) -> Scores:
    """Return the thresholds that all sections share.

    Raises
    ------
    DataError
        If there is no section, or if sections were scored at different thresholds.
    """
    if not thresholds:
        raise DataError("there is no section to score; pass at least one")
    first = thresholds[0]
    for index, other in enumerate(thresholds):
        if not np.array_equal(first, other):
            raise DataError(
                f"section {index} was scored at thresholds {other.tolist()}, "
                f"section 0 at {first.tolist()}; use the same for all"
            )
    return first


def accumulated_thresholds(stop: float) -> Scores:
    """List 0.0, 0.1, ... up to ``stop``, adding 0.1 each time as the challenge did.

    Examples
    --------
    >>> accumulated_thresholds(1.0).size, float(accumulated_thresholds(1.0)[-1])
    (11, 0.9999999999999999)
    """
    thresholds = [0.0]
    while thresholds[-1] + 0.1 <= stop:
        thresholds.append(thresholds[-1] + 0.1)
    return np.array(thresholds)
