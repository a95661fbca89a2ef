"""Tables of measured objects: Parquet, CSV and AnnData, a volume's and a run's."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from unetpipe.errors import ConfigError
from unetpipe.records.segmentation import WrittenFile
from unetpipe.runtime.files import hash_file, write_bytes_atomic

TRUTHS = ("touches_border",)
WHOLE = ("euler_number",)


def make_measured_table(
    columns: Sequence[str],
    rows: Iterable[tuple[int, list[float]]],
    named: pa.Table,
    *,
    is_flat: bool,
) -> pa.Table:
    """Return the rows of some objects in the order of their ids.

    Parameters
    ----------
    columns : sequence of str
        What the values of a row are.
    rows : iterable of (id, values)
        NaN is written as an empty cell.
    named : pyarrow.Table
        The table of all objects; ``id``, ``class`` and ``voxels`` are taken over.
    is_flat : bool
        Each object lies in one section, which ``section`` tells.
    """
    ordered = sorted(rows)
    ids = np.array([number for number, _ in ordered], np.int64)
    values = np.array([row for _, row in ordered], np.float64)
    values = values.reshape(len(ids), len(columns))
    chosen = named.take(pa.array(ids - 1))
    table = chosen.select(["id", "class", "voxels"])
    if is_flat:
        table = table.add_column(1, "section", chosen["start_z"])
    for place, name in enumerate(columns):
        table = table.append_column(name, _typed(name, values[:, place]))
    return table


def _typed(name: str, values: NDArray[np.float64]) -> pa.Array:
    empty = np.isnan(values)
    if name in TRUTHS:
        return pa.array(values > 0, mask=empty, type=pa.bool_())
    if name in WHOLE:
        return pa.array(np.where(empty, 0, values).astype(np.int64), mask=empty)
    return pa.array(values, mask=empty)


def join_tables(tables: Iterable[pa.Table]) -> pa.Table:
    """Return tables of parts as one, in the order of ids."""
    return pa.concat_tables(tables).sort_by("id")


def write_packed(table: pa.Table, path: Path) -> WrittenFile:
    """Write a table as Parquet; return its path and hash."""
    return _write(table, path, parquet.write_table)


def write_tables(table: pa.Table, packed: Path, text: Path) -> dict[str, WrittenFile]:
    """Write a table as Parquet and as CSV; return their paths and hashes."""
    return {
        "parquet": write_packed(table, packed),
        "csv": _write(table, text, csv.write_csv),
    }


def _write(table: pa.Table, path: Path, write: Callable[..., object]) -> WrittenFile:
    content = io.BytesIO()
    write(table, content)
    write_bytes_atomic(path, content.getvalue())
    return WrittenFile(path=path, sha256=hash_file(path))


def join_measured_volumes(
    tables: Iterable[tuple[Mapping[str, str], pa.Table]],
) -> pa.Table:
    """Return the tables of several volumes as one.

    Parameters
    ----------
    tables : iterable of (told, table)
        What is told of a volume stands in front of each of its rows: network, volume,
        where on a plate it lies, its conditions. What a volume lacks is empty.
    """
    told = []
    for about, table in tables:
        for place, (name, value) in enumerate(about.items()):
            repeated = pa.array([value] * len(table), pa.string())
            table = table.add_column(place, name, repeated)
        told.append(table)
    if not told:
        return pa.table(
            {name: pa.array([], pa.string()) for name in ("model", "volume")}
        )
    return pa.concat_tables(told, promote_options="permissive")


def write_anndata(table: pa.Table, path: Path) -> None:
    """Write a table as AnnData: measurements as ``X``, all that names them as ``obs``.

    Raises
    ------
    ConfigError
        If the package is not installed.
    """
    try:
        import anndata
        import pandas
    except ImportError:
        raise ConfigError(
            "measure.anndata needs the package anndata; `pip install "
            "unetpipe[tables]`, or set it to false"
        ) from None
    words = [f.name for f in table.schema if pa.types.is_string(f.type)]
    named = (*words, "id", "section", "class", "voxels")
    naming = [name for name in named if name in table.column_names]
    measured = [name for name in table.column_names if name not in naming]
    values = [table[name].to_numpy().astype(np.float64) for name in measured]

    def as_index(names: Iterable[str]) -> Any:
        # As objects: the package cannot write the strings that pandas 3 has.
        return pandas.Index(np.array(list(names), object), dtype=object)

    def as_categories(name: str) -> Any:
        packed = table[name].combine_chunks().dictionary_encode()
        codes, known = packed.indices.to_numpy(), packed.dictionary.to_pylist()
        return pandas.Categorical.from_codes(codes, categories=as_index(known))

    observed = {
        name: as_categories(name) if name in words else table[name].to_numpy()
        for name in naming
    }
    data: Any = anndata.AnnData(
        X=np.stack(values, axis=1) if values else np.empty((len(table), 0)),
        obs=pandas.DataFrame(observed, index=as_index(map(str, range(len(table))))),
        var=pandas.DataFrame(index=as_index(measured)),
    )
    partial = path.with_name(f".{path.name}")
    data.write_h5ad(partial)
    partial.replace(path)
