"""The table of objects: one row an object, as Parquet and as CSV."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from unetpipe.records.segmentation import WrittenFile
from unetpipe.runtime.files import hash_file, write_bytes_atomic
from unetpipe.segmentation.runs import HIGH, LOW, OWN, STORED, SUM, VOXELS, Sums
from unetpipe.tiling.scale import ToldSize


def describe_object_table(
    kinds: NDArray[np.uint8], sums: Sums, voxel_size_nm: ToldSize | None
) -> pa.Table:
    """Return the table of objects 1, 2, ... of a volume.

    Parameters
    ----------
    kinds : uint8 array, shape (objects,)
        Class of each object.
    sums : Sums, shape (objects, columns)
        Integer sums, so that the table does not depend on how they were added up.
    voxel_size_nm : (z, y, x) or None
        Size of a voxel; None: nobody knows it, and nothing is told in nanometres, or
        nothing along z. Voxel 0 has its centre at 0 nm, as in the stores.
    """
    columns: dict[str, NDArray[np.generic]] = {
        "id": np.arange(1, len(kinds) + 1, dtype=np.uint64),
        "class": kinds,
        "voxels": sums[:, VOXELS],
    }
    centroids = sums[:, SUM : SUM + 3] / sums[:, VOXELS, None]
    for axis, name in enumerate("zyx"):
        columns[f"centroid_{name}_vox"] = centroids[:, axis]
    for axis, edge_nm in enumerate(voxel_size_nm or ()):
        if edge_nm is not None:
            columns[f"centroid_{'zyx'[axis]}_nm"] = centroids[:, axis] * edge_nm
    for axis, name in enumerate("zyx"):
        columns[f"start_{name}"] = sums[:, LOW + axis]
        columns[f"stop_{name}"] = sums[:, HIGH + axis]
    columns["mean_probability"] = sums[:, STORED] / (255.0 * sums[:, OWN])
    return pa.table({name: _arrow(column) for name, column in columns.items()})


def _arrow(column: NDArray[np.generic]) -> pa.Array:
    """Return numbers as Arrow has them; ``pa.array`` would load pandas, if it is there.

    That takes longer than the objects of a small volume.
    """
    values = np.ascontiguousarray(column)
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def write_object_table(table: pa.Table, folder: Path) -> dict[str, WrittenFile]:
    """Write ``objects.parquet`` and ``objects.csv``; return their paths and hashes."""
    packed, text = io.BytesIO(), io.BytesIO()
    parquet.write_table(table, packed)
    csv.write_csv(table, text)
    written = {}
    for kind, content in (("parquet", packed), ("csv", text)):
        path = folder / f"objects.{kind}"
        write_bytes_atomic(path, content.getvalue())
        written[kind] = WrittenFile(path=path, sha256=hash_file(path))
    return written
