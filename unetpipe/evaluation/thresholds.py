"""The ISBI 2012 scores of a two-class predictor, over thresholds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from unetpipe.evaluation.score_rows import make_score_row, plain_scores
from unetpipe.metrics.bootstrap import bootstrap_best, bootstrap_curve
from unetpipe.metrics.columns import Proposal, Truth
from unetpipe.metrics.curves import SAME_THRESHOLD, Scores, ThresholdCurve
from unetpipe.metrics.isbi import (
    THRESHOLDS,
    IsbiSection,
    collect_isbi_curves,
    score_columns,
)
from unetpipe.metrics.warping import (
    WARPING_THRESHOLDS,
    WarpingSection,
    collect_warping,
    warp_columns,
)
from unetpipe.records.metrics import Curve, Role, Row

Warping = Literal["all", "delivered"] | None
NAMES = ("pixel_error", "rand_error", "v_rand", "v_info")


class ThresholdScores:
    """Collects the scores of one predictor, section by section.

    Parameters
    ----------
    warping : "all", "delivered" or None
        Warp every section too: at all thresholds, or at that of the delivered masks.
    delivered : float or None
        Threshold of the delivered masks, which is scored beside the challenge's.
    """

    def __init__(self, *, warping: Warping, delivered: float | None = None) -> None:
        self._thresholds = _with(THRESHOLDS, delivered)
        self._warped = _with(WARPING_THRESHOLDS, delivered)
        self._warping_at = np.full(self._warped.size, warping == "all")
        if warping == "delivered" and delivered is not None:
            distance = np.abs(self._warped - delivered)
            self._warping_at |= distance < SAME_THRESHOLD
        self.numbers: list[int] = []
        self._isbi: list[IsbiSection] = []
        self._warping: list[WarpingSection] = []

    def add(self, number: int, proposal: Proposal, truth: Truth) -> None:
        """Score one section."""
        self.numbers.append(number)
        self._isbi.append(score_columns(proposal, truth, thresholds=self._thresholds))
        if self._warping_at.any():
            self._warping.append(
                warp_columns(
                    proposal, truth, thresholds=self._warped, only=self._warping_at
                )
            )

    def curves(self) -> dict[str, ThresholdCurve]:
        """Return the score of each metric over thresholds."""
        isbi = collect_isbi_curves(self._isbi)
        curves = {name: getattr(isbi, name) for name in NAMES}
        if self._warping:
            warping = collect_warping(self._warping)
            curves["warping_error"] = warping.warping_error
            curves["classic_warping_error"] = warping.classic_warping_error
        return curves


def threshold_rows(
    predictor: str, curves: dict[str, ThresholdCurve], chosen: dict[str, float]
) -> Iterator[Row]:
    """Yield one table row a metric: as chosen elsewhere, and best on these sections.

    Parameters
    ----------
    predictor : str
        Name of the row.
    curves : dict
        Metric -> curve over thresholds on the scored sections.
    chosen : dict
        Metric -> threshold of the delivered masks, of baselines that which scored best
        on validation sections; may lack some.
    """
    for metric, curve in curves.items():
        threshold, best = chosen.get(metric), curve.best()
        if threshold is not None and not curve.has(threshold):
            # Of masks cut between two thresholds of the curve this score is not known.
            told = (threshold, math.nan)
            num_sections = len(curve.per_section)
            yield make_score_row(
                predictor, metric, best=best, chosen=told, num_sections=num_sections
            )
            continue
        yield make_score_row(
            predictor,
            metric,
            best=best,
            chosen=None if threshold is None else (threshold, curve.at(threshold)),
            per_section=None if threshold is None else curve.sections_at(threshold),
            interval=(
                bootstrap_best(curve)
                if threshold is None
                else bootstrap_curve(curve, threshold)
            ),
            num_sections=len(curve.per_section),
        )


def mask_score_rows(predictor: str, sections: Iterable[IsbiSection]) -> Iterator[Row]:
    """Yield one table row a metric of masks, which were scored at one threshold."""
    curves = collect_isbi_curves(sections)
    for metric in NAMES:
        curve: ThresholdCurve = getattr(curves, metric)
        (threshold,) = curve.thresholds.tolist()
        yield make_score_row(
            predictor,
            metric,
            chosen=(None, curve.at(threshold)),
            per_section=curve.sections_at(threshold),
            interval=bootstrap_curve(curve, threshold),
            num_sections=len(curve.per_section),
        )


def describe_curve(role: Role, predictor: str, curve: ThresholdCurve) -> Curve:
    """Return a curve as it goes into ``metrics.json``: pooled score by threshold."""
    return Curve(
        role=role,
        predictor=predictor,
        metric=curve.metric,
        thresholds=plain_scores(curve.thresholds),
        scores=plain_scores(curve.pooled),
    )


def _with(thresholds: Scores, delivered: float | None) -> Scores:
    """Return the thresholds of a curve, with that of the delivered masks among them."""
    if delivered is None or not 0 < delivered < 1:
        return thresholds
    if np.abs(thresholds - delivered).min() < SAME_THRESHOLD:
        return thresholds
    return np.sort(np.append(thresholds, delivered))
