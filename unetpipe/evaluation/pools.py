"""What a network's test sections contribute to a pool: its own, or what all share.

With folds, sections of rows without a fold are tested by every network. They count once
for each network, so they are no part of the cross-validated pool.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from unetpipe.evaluation.folds import FoldTerms, pool_means, pool_terms, read_terms
from unetpipe.records.metrics import TEST, Metrics, Row, SectionScores

ALL = "all"
Key = tuple[str, str]  # predictor and metric


@dataclass(frozen=True, slots=True)
class Contribution:
    """Terms of scores over thresholds, and means over sections or objects."""

    terms: dict[Key, FoldTerms] = field(default_factory=dict)
    means: dict[Key, Row] = field(default_factory=dict)


def split_scores(
    section_scores: SectionScores,
    metrics: Metrics,
    shared: Iterable[int] | str,
) -> tuple[Contribution, Contribution, bool]:
    """Return what a volume's test sections contribute, the shared ones apart.

    Parameters
    ----------
    section_scores : SectionScores
    metrics : Metrics
    shared : iterable of int, or "all"
        The sections that all networks are tested on.

    Returns
    -------
    own, shared : Contribution
    is_whole : bool
        False if means are of sections of both kinds: they cannot be taken apart, and
        belong to neither.
    """
    everything = shared == ALL
    numbers = frozenset() if everything else frozenset(shared)
    both = Contribution(), Contribution()
    for described in section_scores.rows:
        if described.role != TEST:
            continue
        key = (described.predictor, described.metric)
        terms = read_terms(described)
        for contribution, is_shared in zip(both, (False, True), strict=True):
            places = [
                place
                for place, z in enumerate(described.sections)
                if (everything or z in numbers) == is_shared
            ]
            if places:
                contribution.terms[key] = terms._replace(terms=terms.terms[places])
    is_whole = True
    for table in metrics.objects:
        if table.role != TEST:
            continue
        kinds = {everything or z in numbers for z in table.sections}
        is_whole = is_whole and len(kinds) < 2
        for kind in kinds if len(kinds) == 1 else ():
            for row in table.rows:
                both[kind].means[row.predictor, row.metric] = row
    return *both, is_whole


def pool(contributions: Iterable[Contribution]) -> list[Row]:
    """Return the rows over all sections of some contributions; see ``pool_terms``."""
    terms: dict[Key, list[FoldTerms]] = {}
    means: dict[Key, list[Row]] = {}
    for contribution in contributions:
        for key, of_volume in contribution.terms.items():
            terms.setdefault(key, []).append(of_volume)
        for key, row in contribution.means.items():
            means.setdefault(key, []).append(row)
    rows = [pool_terms(*key, folds) for key, folds in terms.items()]
    return rows + [row for row in map(pool_means, means.values()) if row]
