"""Rule compare_networks: the scores of variants, folds and seeds side by side."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unetpipe.evaluation.comparison import Scored, ScoredNetwork, compare_variants
from unetpipe.evaluation.pools import split_scores
from unetpipe.evaluation.score_rows import score_definitions
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.comparison import Comparison, Shared, Variant
from unetpipe.records.metrics import OURS, SectionScores

log = logging.getLogger(__name__)


def compare_networks(
    *,
    networks: list[ScoredNetwork],
    variants: dict[str, dict[str, Any]],
    sections: list[Path],
    record: Path,
) -> None:
    """Pool the test scores over folds, then compare variants over seeds.

    Scores over thresholds are those of all test sections together: at the one
    threshold that is best on them, as publications give it, and with each fold at the
    threshold that its own validation rows chose. Overlap and scores of objects are of
    the counts of all sections together.

    With folds, sections that every network was tested on stand apart: mean and range
    over networks, and the score of their ensemble, if there is one.

    Parameters
    ----------
    networks : list of ScoredNetwork
        Of each scored volume.
    variants : dict
        Name -> what it changes; empty where there are none. The first is what the
        others are compared with.
    sections : list of Path
        ``section_scores.json``, in the order of ``networks``.
    record : Path
        Where to write ``comparison.json``.

    Raises
    ------
    DataError
        If folds were scored at different thresholds.
    """
    scored, left_out = [], []
    for network, path in zip(networks, sections, strict=True):
        of_network, is_whole = _read(network, path)
        scored.append(of_network)
        if not is_whole:
            left_out.append(_describe_left_out(network))
            log.warning("%s", left_out[-1])
    compared, shared = compare_variants(scored, variants)
    metrics_of = [row.metric for table in compared for row in table.rows]
    metrics_of += [row.metric for table in shared for row in table.rows]
    for one in shared:
        metrics_of += [row.metric for row in one.ensemble.rows] if one.ensemble else []
    Comparison(
        definitions=score_definitions(metrics_of),
        variants=tuple(compared),
        shared=tuple(shared),
        left_out=tuple(left_out),
        circumstances=Circumstances.here(),
    ).write(record)
    _tell(compared, "all folds")
    _tell(shared, "mean over networks")


def _read(network: ScoredNetwork, sections: Path) -> tuple[Scored, bool]:
    """Return what a network's test sections contribute, and whether that is all."""
    own, shared, is_whole = split_scores(
        SectionScores.read(sections), network["shared"]
    )
    scored = Scored(
        model=network["model"],
        volume=network["volume"],
        variant=network["variant"],
        fold=network["fold"],
        seed=network["seed"],
        is_joined=network["is_joined"],
        own=own,
        shared=shared,
    )
    return scored, is_whole


def _describe_left_out(network: ScoredNetwork) -> str:
    return (
        f"{network['volume']} by {network['model']}: objects span sections of this "
        "fold and sections that all networks were tested on, so their scores are in "
        "neither table"
    )


def _tell(tables: Iterable[Variant | Shared], what: str) -> None:
    """Say the networks' scores, a line each; those of baselines are in the record."""
    for table in tables:
        scores = [
            f"{row.metric} {row.chosen.score:.4g}"
            for row in table.rows
            if row.predictor == OURS and row.chosen and _is_told(row.metric)
        ]
        name = ", ".join(filter(None, [table.variant, what]))
        log.info("%s: %s", name, ", ".join(scores) or "no scores")


def _is_told(metric: str) -> bool:
    return "_class_" not in metric or metric == "dice_class_1"
