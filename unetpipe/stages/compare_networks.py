"""Rule compare_networks: the scores of variants, folds and seeds side by side."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpipe.evaluation.folds import spread_over_networks, spread_over_seeds
from unetpipe.evaluation.pools import Contribution, pool, split_scores
from unetpipe.evaluation.score_rows import Row, definitions_of
from unetpipe.runtime.files import circumstances, read_record, write_record

log = logging.getLogger(__name__)

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Scored:
    """A network on a volume: who it is, and what its test sections contribute."""

    network: dict[str, Any]
    own: Contribution
    shared: Contribution


def compare_networks(
    *,
    networks: list[dict[str, Any]],
    variants: dict[str, dict[str, Any]],
    metrics: list[Path],
    sections: list[Path],
    record: Path,
) -> None:
    """Pool the test scores over folds, then compare variants over seeds.

    Scores over thresholds are those of all test sections together: at the one
    threshold that is best on them, as publications give it, and with each fold at the
    threshold that its own validation rows chose. Means over sections or objects are
    pooled too; ratios of object counts are not.

    With folds, sections that every network was tested on stand apart: mean and range
    over networks, and the score of their ensemble, if there is one.

    Parameters
    ----------
    networks : list of dict
        ``{"model", "volume", "variant", "fold", "seed", "shared", "is_joined"}`` of
        each scored volume; ``shared`` are the sections that all networks were tested
        on, or "all"; ensembles are joined.
    variants : dict
        Name -> what it changes; empty where there are none. The first is what the
        others are compared with.
    metrics, sections : list of Path
        ``metrics.json`` and ``section_scores.json``, in the order of ``networks``.
    record : Path
        Where to write ``comparison.json``.

    Raises
    ------
    DataError
        If folds were scored at different thresholds.
    """
    scored = list(map(_read, networks, metrics, sections))
    compared: list[Table] = []
    shared: list[Table] = []
    for variant in variants or {"": {}}:
        of_variant = [one for one in scored if one.network["variant"] == variant]
        trained = [one for one in of_variant if not one.network["is_joined"]]
        joined = [one for one in of_variant if one.network["is_joined"]]
        compared.append(
            _own_table(trained, variant, variants.get(variant, {}), compared[:1])
        )
        shared += _shared_table(trained, joined, variant, shared[:1])
    tables = [*compared, *shared, *(t["ensemble"] for t in shared if t["ensemble"])]
    write_record(
        record,
        {
            "definitions": definitions_of(
                row["metric"] for table in tables for row in table["rows"]
            ),
            "variants": compared,
            "shared": shared,
            "circumstances": circumstances(),
        },
    )
    _tell(compared, "all folds")
    _tell(shared, "mean over networks")


def _read(network: dict[str, Any], metrics: Path, sections: Path) -> _Scored:
    own, shared, is_whole = split_scores(
        read_record(sections), read_record(metrics), network["shared"]
    )
    if not is_whole:
        log.warning(
            "%s by %s: means over objects are of sections of this fold and of sections "
            "that all networks share, so they are in neither table",
            network["volume"],
            network["model"],
        )
    return _Scored(network, own, shared)


def _names(scored: Sequence[_Scored], key: str) -> list[Any]:
    return sorted({one.network[key] for one in scored})


def _own_table(
    trained: Sequence[_Scored], variant: str, changes: Table, first: Sequence[Table]
) -> Table:
    """Return the scores of a variant, each section by the network that never saw it."""
    seeds = {
        seed: pool(one.own for one in trained if one.network["seed"] == seed)
        for seed in _names(trained, "seed")
    }
    return {
        "variant": variant,
        "changes": changes,
        "models": _names(trained, "model"),
        "folds": _names(trained, "fold"),
        "rows": spread_over_seeds(seeds, against=_rows_of(first)),
    }


def _shared_table(
    trained: Sequence[_Scored],
    joined: Sequence[_Scored],
    variant: str,
    first: Sequence[Table],
) -> list[Table]:
    """Return a variant's scores on what all networks were tested on, if anything."""
    sharing = [one for one in trained if one.shared.terms or one.shared.means]
    if not sharing:
        return []
    by_model = {
        model: pool(one.shared for one in sharing if one.network["model"] == model)
        for model in _names(sharing, "model")
    }
    return [
        {
            "variant": variant,
            "models": list(by_model),
            "volumes": _names(sharing, "volume"),
            "rows": spread_over_networks(by_model, against=_rows_of(first)),
            "ensemble": {
                "model": joined[0].network["model"],
                "rows": pool(one.shared for one in joined),
            }
            if joined
            else None,
        }
    ]


def _rows_of(tables: Sequence[Table]) -> list[Row] | None:
    return tables[0]["rows"] if tables else None


def _tell(tables: Sequence[Table], what: str) -> None:
    for table in tables:
        for row in table["rows"]:
            log.info(
                "%s %s %s: %s",
                ", ".join(filter(None, [table["variant"], what])),
                row["predictor"],
                row["metric"],
                {kind: row[kind] for kind in ("chosen", "best") if row[kind]},
            )
