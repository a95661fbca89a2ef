"""Scores of all folds together: each section by the network that never saw it.

A fold tells what its sections contribute at each threshold; contributions add up, so
that the pooled score is the published score of the whole stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.evaluation.score_rows import make_score_row, plain_scores
from unetpipe.metrics import isbi, warping
from unetpipe.metrics.bootstrap import bootstrap_best, bootstrap_sums
from unetpipe.metrics.curves import (
    SAME_THRESHOLD,
    Scores,
    ThresholdCurve,
    mean_of_sums,
)
from unetpipe.records.comparison import ModelRow, SeedRow, Spread, SpreadRow
from unetpipe.records.metrics import Role, Row, Score, SectionTerms

# How the terms of sections, added up, become a score; of the others it is their mean.
SCORES_OF_TERMS = {**isbi.SCORES_OF_TERMS, **warping.SCORES_OF_TERMS}


K = TypeVar("K")


class FoldTerms(NamedTuple):
    """What one fold's sections contribute to one metric.

    ``terms`` is float64, shape (sections, thresholds, kinds), NaN where undefined;
    ``chosen`` the threshold that the fold's validation rows chose, or None.
    """

    thresholds: NDArray[np.float64]
    terms: NDArray[np.float64]
    chosen: float | None

    def places_of(self, thresholds: Sequence[float] | Scores) -> list[int]:
        """Return where some of the thresholds stand.

        Raises
        ------
        DataError
            If the fold was not scored at one of them.
        """
        distances = [np.abs(self.thresholds - wanted) for wanted in thresholds]
        if any(distance.min() > SAME_THRESHOLD for distance in distances):
            raise DataError(
                f"a fold was scored at {self.thresholds.tolist()}, not at all of "
                f"{list(thresholds)}; score all with the same code"
            )
        return [int(distance.argmin()) for distance in distances]


def terms_of_scored_sections(
    role: Role,
    predictor: str,
    curve: ThresholdCurve,
    *,
    sections: Sequence[int],
    chosen: float | None,
) -> SectionTerms:
    """Return a curve's terms as they go into ``section_scores.json``."""
    return SectionTerms(
        role=role,
        predictor=predictor,
        metric=curve.metric,
        sections=tuple(sections),
        chosen=chosen,
        thresholds=plain_scores(curve.thresholds),
        terms=plain_scores(curve.terms),
        scores=plain_scores(curve.per_section),
    )


def read_terms(described: SectionTerms) -> FoldTerms:
    """Return what ``terms_of_scored_sections`` described."""
    return FoldTerms(
        np.array(described.thresholds, np.float64),
        np.array(described.terms, np.float64),
        described.chosen,
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
    grid = _shared_thresholds(metric, folds)
    curve = curve_of_terms(
        metric, grid, np.concatenate([f.terms[:, f.places_of(grid)] for f in folds])
    )
    best = curve.best()
    if any(fold.chosen is None for fold in folds):
        return make_score_row(
            predictor,
            metric,
            best=best,
            interval=bootstrap_best(curve),
            num_sections=len(curve.terms),
        )
    terms = np.concatenate(
        [fold.terms[:, fold.places_of([fold.chosen or 0.0])[0]] for fold in folds]
    )
    known = terms[~np.isnan(terms).any(axis=-1)]
    interval = bootstrap_sums(known, curve.score)
    return make_score_row(
        predictor,
        metric,
        best=best,
        chosen=(None, float(curve.score(terms.sum(axis=0)))),
        per_section=curve.score(terms),
        interval=interval,
        num_sections=len(terms),
    )


def _shared_thresholds(metric: str, folds: Sequence[FoldTerms]) -> Scores:
    """Return the thresholds that all folds were scored at.

    A fold may have that of its delivered masks beside them.
    """

    def has(fold: FoldTerms, threshold: float) -> bool:
        return bool(np.abs(fold.thresholds - threshold).min() <= SAME_THRESHOLD)

    grid = [t for t in folds[0].thresholds if all(has(fold, t) for fold in folds)]
    for number, fold in enumerate(folds):
        own = [
            t
            for t in fold.thresholds
            if not any(abs(t - u) <= SAME_THRESHOLD for u in grid)
        ]
        if any(t != fold.chosen for t in own) or not grid:
            raise DataError(
                f"{metric}: fold {number} was scored at {fold.thresholds.tolist()}, "
                f"others at {np.array(grid).tolist()}; score all with the same code"
            )
    return np.array(grid)


def spread_over_seeds(
    seeds: Mapping[int, Sequence[Row]], *, against: Sequence[SpreadRow] = ()
) -> list[SpreadRow]:
    """Return one row a predictor and metric, over networks that differ by chance.

    Parameters
    ----------
    seeds : dict
        Seed -> pooled rows.
    against : list of SpreadRow
        What this function returned for the variant to compare with, if any.

    Returns
    -------
    list of SpreadRow
        The first seed's row, in which ``chosen`` and ``best`` are replaced by mean,
        lowest and highest over seeds, and the difference of means to ``against``;
        ``seeds`` keeps the single rows.
    """
    return [
        _spread(
            [row for _, row in single],
            against,
            seeds=tuple(SeedRow(seed=seed, **dict(row)) for seed, row in single),
        )
        for single in _by_key(seeds)
    ]


def spread_over_networks(
    models: Mapping[str, Sequence[Row]], *, against: Sequence[SpreadRow] = ()
) -> list[SpreadRow]:
    """Return the same over networks that were scored on the same sections.

    ``models`` has the pooled rows of each network by its name, and keeps them in each
    returned row.
    """
    return [
        _spread(
            [row for _, row in single],
            against,
            models=tuple(ModelRow(model=model, **dict(row)) for model, row in single),
        )
        for single in _by_key(models)
    ]


def _by_key(members: Mapping[K, Sequence[Row]]) -> list[list[tuple[K, Row]]]:
    """Return the rows of each predictor and metric, each with whose it is."""
    by_key: dict[tuple[str, str], list[tuple[K, Row]]] = {}
    for member, rows in members.items():
        for row in rows:
            by_key.setdefault((row.predictor, row.metric), []).append((member, row))
    return list(by_key.values())


def _spread(
    rows: Sequence[Row], against: Sequence[SpreadRow], **single: Any
) -> SpreadRow:
    first = rows[0]
    key = (first.predictor, first.metric)
    others = [other for other in against if (other.predictor, other.metric) == key]
    shown = {
        "best": _summarise(
            [row.best for row in rows], [other.best for other in others]
        ),
        "chosen": _summarise(
            [row.chosen for row in rows], [other.chosen for other in others]
        ),
    }
    return SpreadRow(**(dict(first) | shown | single))


def _summarise(
    shown: Sequence[Score | None], against: Sequence[Spread | None]
) -> Spread | None:
    scores = [s.score for s in shown if s and s.score is not None]
    if not scores:
        return None
    mean = float(np.mean(scores))
    gaps = [mean - other.score for other in against if other]
    return Spread(
        score=mean,
        lowest=min(scores),
        highest=max(scores),
        n=len(scores),
        thresholds=tuple(s.threshold for s in shown if s),
        **({"difference": gaps[0]} if gaps else {}),
    )
