"""Target and border term of a whole volume: their stores, and what they hold."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.storage.volumes import create_volume, shard_shape
from unetpipe.targets.weight_blocks import Weigher
from unetpipe.tiling.boxes import Zyx, as_zyx

# With ndim 3: blocks with their halo fit into memory, and patches read little.
CHUNK_3D: Zyx = (32, 64, 64)
SHARD_3D: Zyx = (64, 256, 256)


def create_like(
    labels: zarr.Array[Any],
    path: Path,
    dtype: Any,
    voxel_size_nm: tuple[float, float, float],
    ndim: int,
) -> zarr.Array[Any]:
    """Create a store shaped like the labels; with ndim 2 its shards are sections."""
    chunk, shard = CHUNK_3D, SHARD_3D
    if ndim == 2:
        chunk = (1, *as_zyx(labels.chunks)[1:])
        shard = (1, *shard_shape(labels)[1:])
    return create_volume(
        path,
        shape=as_zyx(labels.shape),
        dtype=dtype,
        chunk=chunk,
        shard=shard,
        voxel_size_nm=voxel_size_nm,
        is_labels=np.dtype(dtype) == np.uint8,
    )


def weigh_all(weigher: Weigher, volume: str) -> tuple[list[list[int]], list[int], int]:
    """Store all blocks; return voxels of each class and cells, section by section.

    The last number is that of cells, over all sections, of which nothing is left in the
    target.
    """
    weigher.check_memory(f"volume {volume}: weight map")
    try:
        return _count_all(weigher)
    except DataError as error:
        raise DataError(f"volume {volume}, {error}") from error


def _count_all(weigher: Weigher) -> tuple[list[list[int]], list[int], int]:
    num_sections = weigher.shape[0]
    class_counts = np.zeros((num_sections, weigher.num_classes), np.int64)
    num_cells, num_kept = [0] * num_sections, [0] * num_sections
    # Of the sections in work: a cell may lie in several blocks of its section.
    cells: dict[int, list[NDArray[Any]]] = {}
    kept: dict[int, list[NDArray[Any]]] = {}

    def finish(z: int) -> None:
        num_cells[z] = _count_distinct(cells.pop(z))
        num_kept[z] = _count_distinct(kept.pop(z))

    for block in weigher.blocks():
        first, stop = block.roi.start[0], block.roi.stop[0]
        class_counts[first:stop] += block.class_counts
        for z in [z for z in cells if z < first]:
            finish(z)
        for z, found in enumerate(block.cells, start=first):
            cells.setdefault(z, []).append(found)
            kept.setdefault(z, []).append(block.kept[z - first])
    for z in list(cells):
        finish(z)
    return class_counts.tolist(), num_cells, sum(num_cells) - sum(num_kept)


def _count_distinct(ids: list[NDArray[Any]]) -> int:
    return int(np.unique(np.concatenate(ids)).size)
