"""Rule collect_metrics: all scores of a run in one table."""

import csv
import io
import logging
from pathlib import Path
from typing import Any

from unetpipe.records.comparison import Comparison
from unetpipe.records.metrics import Metrics
from unetpipe.report.catalogue import SCORE_COLUMNS, pooled_lines, score_lines
from unetpipe.runtime.files import write_bytes_atomic

log = logging.getLogger(__name__)


def collect_metrics(
    *, name: str, metrics: list[dict[str, Any]], pooled: list[Path], table: Path
) -> None:
    """Write ``metrics.csv``: models x volumes x scores, one score a line.

    Parameters
    ----------
    name : str
        Of the run.
    metrics : list of dict
        ``{"model": name, "metrics": path of metrics.json}``; without any, the table
        has its header alone.
    pooled : list of Path
        ``comparison.json``, or none with a single network.
    table : Path
        The file to write; numbers as Python prints them, so that none is rounded.

    Raises
    ------
    DataError
        If a record is missing; the message names it.
    """
    lines = [
        line
        for one in metrics
        for line in score_lines(name, one["model"], Metrics.read(Path(one["metrics"])))
    ]
    for path in pooled:
        lines += pooled_lines(name, Comparison.read(path))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(SCORE_COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_bytes_atomic(table, text.getvalue().encode())
    log.info("%d scores in %s", len(lines), table)
