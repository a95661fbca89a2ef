"""Slabs: as many sections as a shard is deep, read ahead and written by many threads.

::

    file    s0 s1 s2 s3 | s4 s5 s6 s7 | s8        sections
            slab          slab          slab
    store   [shard][shard][shard]...              each slab: one layer of shards
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.images import ImageReader
from unetpipe.runtime.machine import num_processors
from unetpipe.runtime.progress import Progress
from unetpipe.storage.volumes import shard_shape, store_shard
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, grid_cell, iterate_grid

MOST_THREADS = 8


def num_slab_threads() -> int:
    """Return how many threads work on a slab at once."""
    return min(num_processors(), MOST_THREADS)


def read_slabs(
    reader: ImageReader, depth: int, about: str, numbers: Sequence[int] | None = None
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield each slab, shape (c, z, y, x), with the number of its first section.

    ``about`` names the reading where progress is shown; ``numbers`` are those of the
    slabs to read, else all.

    The next one is read meanwhile, into the memory of the one before: a slab may be
    changed, and is gone when the next is asked for.
    """
    num_sections = reader.zyx[0]
    if numbers is None:
        numbers = range(-(-num_sections // depth))
    shape = (reader.shape[0], min(depth, num_sections), *reader.zyx[1:])
    memory = [np.empty(shape, reader.dtype) for _ in range(min(2, len(numbers)))]

    def read(place: int) -> NDArray[Any]:
        start = numbers[place] * depth
        stop = min(start + depth, num_sections)
        slab = memory[place % 2][:, : stop - start]
        reader.read_sections(start, stop, out=slab)
        return slab

    total = sum(min(depth, num_sections - number * depth) for number in numbers)
    with (
        ThreadPoolExecutor(1, "slab") as ahead,
        Progress(about, total, "section") as progress,
    ):
        coming = ahead.submit(read, 0) if numbers else None
        for place, number in enumerate(numbers):
            assert coming is not None
            slab = coming.result()
            if place + 1 < len(numbers):
                coming = ahead.submit(read, place + 1)
            yield number * depth, slab
            progress.update(slab.shape[1])


def shards_of_slab(
    array: zarr.Array[Any], start: int, slab: NDArray[Any]
) -> Iterator[tuple[Zyx, NDArray[Any]]]:
    """Yield (index, voxels) of each shard of the layer that a slab covers.

    Parameters
    ----------
    array : zarr array, (z, y, x) or (c, z, y, x)
        Tells the grid of shards.
    start : int
        First section of the slab: where a layer of shards begins.
    slab : array, shape (z, y, x) or (c, z, y, x)
        The voxels of the whole layer.
    """
    shape, shard = as_zyx(array.shape[-3:]), shard_shape(array)
    layer = Roi((start, 0, 0), (start + slab.shape[-3], *shape[1:]))
    for index in iterate_grid(layer, shard):
        inside = grid_cell(index, shard, shape).relative_to((start, 0, 0)).slices
        yield index, slab[(..., *inside)]


def start_writing(
    array: zarr.Array[Any], start: int, slab: NDArray[Any], threads: ThreadPoolExecutor
) -> list[Future[None]]:
    """Have threads write the layer of shards that a slab covers.

    Parameters
    ----------
    array : zarr array, (z, y, x) or (c, z, y, x)
        To be written.
    start : int
        First section of the slab: where a layer of shards begins.
    slab : array, shape (z, y, x) or (c, z, y, x)
        Must stay as it is until ``finish_writing`` has returned.
    threads : ThreadPoolExecutor
        What does it.
    """
    return [
        threads.submit(_store, array, index, voxels)
        for index, voxels in shards_of_slab(array, start, slab)
    ]


def finish_writing(writing: Iterable[Future[None]]) -> None:
    """Wait until all is written.

    Raises
    ------
    ResourceError
        If the disk is full.
    """
    for shard in writing:
        shard.result()


def _store(array: zarr.Array[Any], index: Zyx, voxels: NDArray[Any]) -> None:
    store_shard(array, index, voxels)  # what it returns would fill the memory
