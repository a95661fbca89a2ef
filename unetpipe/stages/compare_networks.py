"""Rule compare_networks: the scores of variants, folds and seeds side by side."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unetpipe.records import circumstances, read_record, write_record
from unetpipe.scoring import (
    Row,
    definitions_of,
    pool_means,
    pool_terms,
    read_terms,
    spread_over_seeds,
)

log = logging.getLogger(__name__)

TEST = "test"
Table = dict[str, Any]


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

    Parameters
    ----------
    networks : list of dict
        ``{"model", "volume", "variant", "fold", "seed"}`` of each scored volume.
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
    files = list(zip(networks, metrics, sections, strict=True))
    compared: list[Table] = []
    for variant in variants or {"": {}}:
        of_variant = [entry for entry in files if entry[0]["variant"] == variant]
        seeds = {
            seed: _pool(entry[1:] for entry in of_variant if entry[0]["seed"] == seed)
            for seed in sorted({entry[0]["seed"] for entry in of_variant})
        }
        compared.append(
            {
                "variant": variant,
                "changes": variants.get(variant, {}),
                "models": sorted({entry[0]["model"] for entry in of_variant}),
                "folds": sorted({entry[0]["fold"] for entry in of_variant}),
                "rows": spread_over_seeds(
                    seeds, against=compared[0]["rows"] if compared else None
                ),
            }
        )
    write_record(
        record,
        {
            "definitions": definitions_of(
                row["metric"] for table in compared for row in table["rows"]
            ),
            "variants": compared,
            "circumstances": circumstances(),
        },
    )
    for table in compared:
        for row in table["rows"]:
            log.info(
                "%s %s %s: %s",
                table["variant"] or "all folds",
                row["predictor"],
                row["metric"],
                {kind: row[kind] for kind in ("chosen", "best") if row[kind]},
            )


def _pool(files: Iterable[tuple[Path, Path]]) -> list[Row]:
    """Return the rows over all test sections of some networks."""
    terms: dict[tuple[str, str], list[Any]] = {}
    objects: dict[tuple[str, str], list[Row]] = {}
    for metrics, sections in files:
        for described in read_record(sections)["rows"]:
            if described["role"] == TEST:
                key = (described["predictor"], described["metric"])
                terms.setdefault(key, []).append(read_terms(described))
        for table in read_record(metrics)["objects"]:
            for row in table["rows"] if table["role"] == TEST else ():
                key = (row["predictor"], row["metric"])
                objects.setdefault(key, []).append(row)
    rows = [pool_terms(*key, folds) for key, folds in terms.items()]
    return rows + [row for row in map(pool_means, objects.values()) if row]
