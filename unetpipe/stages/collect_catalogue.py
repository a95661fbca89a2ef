"""Rule collect_catalogue: all results of a run in one table, former ones too."""

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from unetpipe.report.catalogue import CATALOGUE_COLUMNS, catalogue_rows, failed_rows
from unetpipe.runtime.files import write_bytes_atomic

log = logging.getLogger(__name__)

TYPES = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


def collect_catalogue(
    *,
    name: str,
    results: Path,
    wanted: list[dict[str, str]],
    table: Path,
    packed: Path,
    failed: Sequence[Mapping[str, str]] = (),
) -> None:
    """Write ``catalogue.csv`` and ``catalogue.parquet``: volumes x networks x recipes.

    Parameters
    ----------
    name : str
        Of the run.
    results : Path
        Folder of the run; every record of a prediction or segmentation there counts.
    wanted : list of dict
        ``model`` and ``volume`` of the predictions that are asked for now.
    table, packed : Path
        The files to write, as CSV and as Parquet.
    failed : sequence of mapping
        ``volume``, ``network`` (empty: of all), ``step`` and ``note`` of what failed.

    Raises
    ------
    DataError
        If a record cannot be read; the message names it.
    """
    lost = {(one["network"], one["volume"]) for one in failed}
    pairs = {
        (model, volume)
        for model, volume in ((one["model"], one["volume"]) for one in wanted)
        if lost.isdisjoint({(model, volume), ("", volume)})
    }
    schema = pa.schema(
        [(key, TYPES[kind]) for key, (kind, _) in CATALOGUE_COLUMNS.items()]
    )
    lines = [*failed_rows(name, failed), *catalogue_rows(name, results, pairs)]
    rows = pa.Table.from_pylist(lines, schema)
    for path, write in ((packed, parquet.write_table), (table, csv.write_csv)):
        content = io.BytesIO()
        write(rows, content)
        write_bytes_atomic(path, content.getvalue())
    current = sum(rows["current"].to_pylist())
    log.info("%d results in %s, %d of them current", len(rows), table, current)
