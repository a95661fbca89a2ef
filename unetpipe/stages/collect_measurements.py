"""Rule collect_measurements: the measured objects of all volumes in one table."""

import logging
from pathlib import Path
from typing import Any

from pyarrow import parquet

from unetpipe.measurement.tables import (
    join_measured_volumes,
    write_anndata,
    write_tables,
)
from unetpipe.records.measurements import Measurements
from unetpipe.runtime.text import count_noun

log = logging.getLogger(__name__)


def collect_measurements(
    *,
    volumes: list[dict[str, Any]],
    packed: Path,
    table: Path,
    annotated: list[Path],
) -> None:
    """Write one row for each object of the run, as Parquet and as CSV.

    Parameters
    ----------
    volumes : list of dict
        ``record``: ``measurements.json``; ``about``: what stands before its rows:
        network, volume, well, field, conditions.
    packed, table : Path
        Where to write Parquet and CSV.
    annotated : list of Path
        Where to write AnnData, if anywhere.

    Raises
    ------
    ConfigError
        If AnnData is wanted and its package is not installed.
    """
    rows = join_measured_volumes(
        (one["about"], parquet.read_table(_table_of(Path(one["record"]))))
        for one in volumes
    )
    write_tables(rows, packed, table)
    for path in annotated:
        write_anndata(rows, path)
    log.info(
        "%s of %s in %s",
        count_noun(len(rows), "object"),
        count_noun(len(volumes), "volume"),
        table,
    )


def _table_of(record: Path) -> Path:
    return Measurements.read(record).table["parquet"].path
