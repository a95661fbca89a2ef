"""Rule pool_folds: all folds together, each section by a network that never saw it."""

import logging
from collections import defaultdict
from pathlib import Path
from typing import Any

from unetpipe.records import circumstances, read_record, write_record
from unetpipe.scoring import (
    Row,
    definitions_of,
    pool_means,
    pool_terms,
    read_terms,
)

log = logging.getLogger(__name__)

TEST = "test"
Key = tuple[str, str]


def pool_folds(*, metrics: list[Path], sections: list[Path], record: Path) -> None:
    """Pool the test scores of all folds into those of cross-validation.

    Scores over thresholds are those of all test sections together: at the one
    threshold that is best on them, as publications give it, and with each fold at the
    threshold that its own validation rows chose. Means over sections or objects are
    pooled too; ratios of object counts are not.

    Parameters
    ----------
    metrics, sections : list of Path
        ``metrics.json`` and ``section_scores.json`` of each fold and volume.
    record : Path
        Where to write ``cross_validation.json``.

    Raises
    ------
    DataError
        If folds were scored at different thresholds.
    """
    terms: dict[Key, list[Any]] = defaultdict(list)
    for described in _rows_of(sections, "rows"):
        if described["role"] == TEST:
            key = (described["predictor"], described["metric"])
            terms[key].append(read_terms(described))
    rows: list[Row] = [pool_terms(*key, folds) for key, folds in terms.items()]
    objects: dict[Key, list[Row]] = defaultdict(list)
    for table in _rows_of(metrics, "objects"):
        for row in table["rows"] if table["role"] == TEST else ():
            objects[row["predictor"], row["metric"]].append(row)
    rows += filter(None, map(pool_means, objects.values()))
    write_record(
        record,
        {
            "definitions": definitions_of(row["metric"] for row in rows),
            "num_folds": len(metrics),
            "rows": rows,
            "circumstances": circumstances(),
        },
    )
    for row in rows:
        log.info(
            "all folds, %s %s: chosen on validation %s, best on these sections %s",
            row["predictor"],
            row["metric"],
            row["chosen"],
            row["best"],
        )


def _rows_of(paths: list[Path], key: str) -> list[dict[str, Any]]:
    return [row for path in paths for row in read_record(path)[key]]
