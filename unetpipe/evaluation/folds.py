"""Scores of all folds together: each section by the network that never saw it.

A fold tells what its sections contribute at each threshold; contributions add up, so
that the pooled score is the published score of the whole stack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.evaluation.score_rows import Row, make_row, plain
from unetpipe.metrics import isbi, warping
from unetpipe.metrics.bootstrap import bootstrap_best, bootstrap_sums
from unetpipe.metrics.curves import Scores, ThresholdCurve, mean_of_sums

# Means over sections or objects: a mean of all is the weighted mean of the folds'.
MEANS = frozenset(
    {
        "adapted_rand_error",
        "average_precision",
        "ctc_seg",
        "vi_merge",
        "vi_merge_bits",
        "vi_split",
        "vi_split_bits",
    }
)


# How the terms of sections, added up, become a score; of the others it is their mean.
SCORES_OF_TERMS = {**isbi.SCORES_OF_TERMS, **warping.SCORES_OF_TERMS}


class FoldTerms(NamedTuple):
    """What one fold's sections contribute to one metric.

    ``terms`` is float64, shape (sections, thresholds, kinds), NaN where undefined;
    ``chosen`` the threshold that the fold's validation rows chose, or None.
    """

    thresholds: NDArray[np.float64]
    terms: NDArray[np.float64]
    chosen: float | None


def describe_terms(
    role: str,
    predictor: str,
    curve: ThresholdCurve,
    *,
    sections: Sequence[int],
    chosen: float | None,
) -> dict[str, Any]:
    """Return a curve's terms as they go into ``section_scores.json``."""
    return {
        "role": role,
        "predictor": predictor,
        "metric": curve.metric,
        "sections": list(sections),
        "chosen": chosen,
        "thresholds": plain(curve.thresholds),
        "terms": plain(curve.terms),
        "scores": plain(curve.per_section),
    }


def read_terms(described: dict[str, Any]) -> FoldTerms:
    """Return what ``describe_terms`` described."""
    return FoldTerms(
        np.array(described["thresholds"], np.float64),
        np.array(described["terms"], np.float64),
        described["chosen"],
    )


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
    score = SCORES_OF_TERMS.get(metric, mean_of_sums)
    return ThresholdCurve(
        metric=metric,
        thresholds=thresholds,
        per_section=score(terms),
        pooled=score(terms.sum(axis=0)),
        pooling="micro" if metric in SCORES_OF_TERMS else "macro",
        higher_is_better=metric not in SCORES_OF_TERMS,
        terms=terms,
        score=score,
    )


def pool_terms(predictor: str, metric: str, folds: Sequence[FoldTerms]) -> Row:
    """Return the table row of a metric over the sections of all folds.

    Parameters
    ----------
    predictor, metric : str
    folds : list of FoldTerms
        Of disjoint sections, scored at the same thresholds.

    Returns
    -------
    Row
        ``best``: at the one threshold that is best over all sections, as published.
        ``chosen``: each fold at the threshold that its own validation rows chose.

    Raises
    ------
    DataError
        If folds were scored at different thresholds.
    """
    first = folds[0].thresholds
    for number, fold in enumerate(folds):
        if not np.array_equal(fold.thresholds, first):
            raise DataError(
                f"{metric}: fold {number} was scored at {fold.thresholds.tolist()}, "
                f"fold 0 at {first.tolist()}; score all with the same code"
            )
    curve = curve_of_terms(metric, first, np.concatenate([f.terms for f in folds]))
    best = curve.best()
    if any(fold.chosen is None for fold in folds):
        scores = None if math.isnan(best.threshold) else curve.sections_at(best[0])
        return make_row(
            predictor,
            metric,
            best=best,
            per_section=scores,
            interval=bootstrap_best(curve),
            num_sections=len(curve.terms),
        )
    terms = np.concatenate(
        [fold.terms[:, curve.index_of(fold.chosen or 0.0)] for fold in folds]
    )
    known = terms[~np.isnan(terms).any(axis=-1)]
    interval = bootstrap_sums(known, curve.score)
    return make_row(
        predictor,
        metric,
        best=best,
        chosen=(None, float(curve.score(terms.sum(axis=0)))),
        per_section=curve.score(terms),
        interval=interval,
        num_sections=len(terms),
    )


def pool_means(rows: Sequence[Row]) -> Row | None:
    """Return the row of a mean over all folds' sections or objects.

    Parameters
    ----------
    rows : list of Row
        One of each fold, of one predictor and metric.

    Returns
    -------
    Row or None
        None for a metric that is no mean, or where no fold has a score.
    """
    known = [row for row in rows if row["n"] and _score(row) is not None]
    if rows[0]["metric"] not in MEANS or not known:
        return None
    weights = [row["n"] for row in known]
    mean = float(np.average([_score(row) for row in known], weights=weights))
    pooled = make_row(
        rows[0]["predictor"],
        rows[0]["metric"],
        chosen=(None, mean),
        num_sections=sum(row["num_sections"] for row in rows),
        units=rows[0]["n_of"],
    )
    return pooled | {"n": sum(weights)}


def spread_over_seeds(
    seeds: Mapping[int, Sequence[Row]], *, against: Sequence[Row] | None = None
) -> list[Row]:
    """Return one row a predictor and metric, over networks that differ by chance.

    Parameters
    ----------
    seeds : dict
        Seed -> pooled rows.
    against : list of Row, optional
        What this function returned for the variant to compare with.

    Returns
    -------
    list of Row
        The first seed's row, in which ``chosen`` and ``best`` are replaced by mean,
        lowest and highest over seeds, and the difference of means to ``against``;
        ``seeds`` keeps the single rows.
    """
    return _spread(seeds, "seed", against)


def spread_over_networks(
    models: Mapping[str, Sequence[Row]], *, against: Sequence[Row] | None = None
) -> list[Row]:
    """Return the same over networks that were scored on the same sections.

    ``models`` has the pooled rows of each network by its name, and keeps them in each
    returned row.
    """
    return _spread(models, "model", against)


def _spread(
    members: Mapping[Any, Sequence[Row]], of: str, against: Sequence[Row] | None
) -> list[Row]:
    reference = {_key(row): row for row in against or ()}
    by_key: dict[tuple[str, str], list[tuple[Any, Row]]] = {}
    for member, rows in members.items():
        for row in rows:
            by_key.setdefault(_key(row), []).append((member, row))
    found = []
    for key, single in by_key.items():
        row = {**single[0][1], f"{of}s": [{of: name, **r} for name, r in single]}
        for kind in ("chosen", "best"):
            row[kind] = _summarise([member[kind] for _, member in single])
            other = reference.get(key, {}).get(kind)
            if row[kind] and other:
                row[kind]["difference"] = row[kind]["score"] - other["score"]
        found.append(row)
    return found


def _key(row: Row) -> tuple[str, str]:
    return row["predictor"], row["metric"]


def _summarise(shown: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    scores = [s["score"] for s in shown if s and s["score"] is not None]
    if not scores:
        return None
    return {
        "score": float(np.mean(scores)),
        "lowest": min(scores),
        "highest": max(scores),
        "n": len(scores),
        "thresholds": [s["threshold"] for s in shown if s],
    }


def _score(row: Row) -> float | None:
    shown = row["chosen"] or row["best"]
    return None if shown is None else shown["score"]
