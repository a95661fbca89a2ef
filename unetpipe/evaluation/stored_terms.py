"""Curves from what sections contributed, as it was stored."""

from __future__ import annotations

from unetpipe.metrics import isbi, warping
from unetpipe.metrics.curves import Scores, ThresholdCurve, mean_of_sums

_SCORES = {**isbi.SCORES_OF_TERMS, **warping.SCORES_OF_TERMS}


def curve_of_terms(metric: str, thresholds: Scores, terms: Scores) -> ThresholdCurve:
    """Return the curve whose ``terms`` these are.

    Parameters
    ----------
    metric : str
        Its name, as in ``metrics.json``.
    thresholds : float64 array, shape (thresholds,)
    terms : float64 array, shape (sections, thresholds, kinds)

    Examples
    --------
    >>> import numpy as np
    >>> curve = ThresholdCurve.macro("v_rand", np.array([0.5]), np.array([[0.8], [1]]))
    >>> curve_of_terms("v_rand", curve.thresholds, curve.terms).pooled
    array([0.9])
    """
    score = _SCORES.get(metric, mean_of_sums)
    return ThresholdCurve(
        metric=metric,
        thresholds=thresholds,
        per_section=score(terms),
        pooled=score(terms.sum(axis=0)),
        pooling="micro" if metric in _SCORES else "macro",
        higher_is_better=metric not in _SCORES,
        terms=terms,
        score=score,
    )
