"""Slabs: as many sections as a shard is deep, read ahead and written by many threads.

::

    file    s0 s1 s2 s3 | s4 s5 s6 s7 | s8        sections
            slab          slab          slab
    store   [shard][shard][shard]...              each slab: one layer of shards

A slab of large sections is read and written in boxes, each some whole shards of its
layer, so that memory grows with no axis of the volume::

    +-------+-------+---+
    | box 0 | box 1 | 2 |      rows of shards; of very wide sections, parts of rows
    +-------+-------+---+
    | box 3 | ...
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import IO, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.images import ImageReader
from unetpipe.runtime.machine import num_processors
from unetpipe.runtime.progress import Progress
from unetpipe.storage.volumes import shard_shape, store_shard
from unetpipe.tiling.boxes import Roi, Zyx, as_zyx, grid_cell, iterate_grid

MOST_THREADS = 8
# Of a slab that are read at once, or one shard: fewer where nothing is decoded twice.
BOX_BYTES, SMALL_BOX_BYTES = 1 << 27, 1 << 22


def num_slab_threads() -> int:
    """Return how many threads work on a slab at once."""
    return min(num_processors(), MOST_THREADS)


@dataclass(frozen=True, slots=True)
class Box:
    """Some whole shards of a layer, as they were read.

    Attributes
    ----------
    origin : (z, y, x)
        Its first voxel in the volume.
    voxels : array, shape (c, z, y, x)
        May be changed; gone when the next box is asked for.
    is_last : bool
        Of its slab.
    """

    origin: Zyx
    voxels: NDArray[Any]
    is_last: bool


def cut_image(reader: ImageReader, shard: Zyx) -> list[tuple[slice, slice]]:
    """Return rows and columns of the boxes of each slab of an image.

    Of slabs of one plane they are small along axes where shards hold whole granules of
    the file, so that none is decoded for several boxes; of deeper ones all voxels
    would have to wait (``VoxelHash``).
    """
    num_planes = reader.shape[0] * min(shard[0], reader.shape[1])
    rows, columns = (
        min(SMALL_BOX_BYTES, BOX_BYTES)
        if num_planes == 1 and side % length == 0
        else BOX_BYTES
        for side, length in zip(shard[1:], reader.granule[1:], strict=True)
    )
    return cut_slab(reader.shape, shard, reader.dtype.itemsize, rows, columns)


def cut_slab(
    shape: tuple[int, int, int, int],
    shard: Zyx,
    itemsize: int,
    most: int,
    most_of_row: int | None = None,
) -> list[tuple[slice, slice]]:
    """Return rows and columns of the boxes of a slab: all of it, if it is small.

    Parameters
    ----------
    shape : (c, z, y, x)
        Of the image.
    shard : (z, y, x)
        Of the store, no larger than the image needs.
    itemsize : int
        Bytes of a voxel.
    most : int
        Bytes of a box of whole rows, if one row of shards is not more already.
    most_of_row : int, optional
        Bytes of a row of shards that is not cut, if one shard is not more already;
        else as many.

    Examples
    --------
    >>> cut_slab((1, 8, 512, 512), (8, 256, 256), 1, most=1 << 21)
    [(slice(0, 512, None), slice(0, 512, None))]
    >>> boxes = cut_slab((1, 8, 512, 512), (8, 256, 256), 1, most=1 << 20)
    >>> [rows for rows, _ in boxes]
    [slice(0, 256, None), slice(256, 512, None)]
    """
    most_of_row = most if most_of_row is None else most_of_row
    num_channels, depth, height, width = shape
    column = num_channels * min(depth, shard[0]) * itemsize
    if column * height * width <= most:
        return [(slice(0, height), slice(0, width))]
    high = shard[1] * max(1, most // (column * shard[1] * width))
    wide = width
    if column * shard[1] * width > most_of_row:
        wide = shard[2] * max(1, most_of_row // (column * shard[1] * shard[2]))
    return [
        (slice(top, min(top + high, height)), slice(left, min(left + wide, width)))
        for top in range(0, height, high)
        for left in range(0, width, wide)
    ]


def ingest_label_boxes(
    reader: ImageReader, shard: Zyx, about: str, numbers: Sequence[int] | None = None
) -> Iterator[Box]:
    """Yield the boxes of each slab in order.

    ``about`` names the reading where progress is shown; ``numbers`` are those of the
    slabs to read, else all.

    The next box is read meanwhile, into the memory of the one before.
    """
    num_channels, num_sections = reader.shape[:2]
    depth = shard[0]
    if numbers is None:
        numbers = range(-(-num_sections // depth))
    cuts = cut_image(reader, shard)
    todo = [(number * depth, *cut) for number in numbers for cut in cuts]
    rows, columns = cuts[0]
    largest = num_channels * min(depth, num_sections) * rows.stop * columns.stop
    memory = [np.empty(largest, reader.dtype) for _ in range(min(2, len(todo)))]

    def read(place: int) -> NDArray[Any]:
        start, rows, columns = todo[place]
        stop = min(start + depth, num_sections)
        shape = (stop - start, rows.stop - rows.start, columns.stop - columns.start)
        size = num_channels * shape[0] * shape[1] * shape[2]
        voxels = memory[place % 2][:size].reshape(num_channels, *shape)
        return reader.read_box(start, stop, rows, columns, out=voxels)

    total = sum(min(depth, num_sections - number * depth) for number in numbers)
    with (
        ThreadPoolExecutor(1, "slab") as ahead,
        Progress(about, total, "section") as progress,
    ):
        coming = ahead.submit(read, 0) if todo else None
        for place, (start, rows, columns) in enumerate(todo):
            assert coming is not None
            voxels = coming.result()
            if place + 1 < len(todo):
                coming = ahead.submit(read, place + 1)
            is_last = (place + 1) % len(cuts) == 0
            yield Box((start, rows.start, columns.start), voxels, is_last)
            if is_last:
                progress.update(voxels.shape[1])


class VoxelHash:
    """Adds voxels to a hash section by section, each (c, y, x), however they are cut.

    The voxels of a slab in several boxes wait in a nameless file until the slab is
    whole, of one section of one channel until a row of boxes is; that file is as
    large, and gone with the process.

    Parameters
    ----------
    digest : hash
        Of ``hashlib``.
    shape : (c, z, y, x)
        Of the image.
    folder : Path or None
        On the disk that has room for a slab; None: where temporary files are.
    """

    def __init__(
        self, digest: Any, shape: tuple[int, int, int, int], folder: Path | None
    ) -> None:
        self.digest, self._shape, self._folder = digest, shape, folder
        self._spool: IO[bytes] | None = None

    def add(self, box: Box, voxels: NDArray[Any] | None = None) -> None:
        """Add a box; with ``voxels``, what has become of its own: (c, z, y, x)."""
        voxels = box.voxels if voxels is None else voxels
        little = voxels.dtype.newbyteorder("<")
        _, y, x = box.origin
        num_channels, num_sections, rows, columns = voxels.shape
        _, _, height, width = self._shape
        is_one_plane = num_channels * num_sections == 1
        if ((y, x) == (0, 0) and box.is_last) or (is_one_plane and columns == width):
            for section in np.moveaxis(voxels, 1, 0):
                self.digest.update(np.ascontiguousarray(section, little).data)
            return
        top, high = (y, rows) if is_one_plane else (0, height)
        self._wait(voxels.astype(little, copy=False), (y - top, x), high)
        if box.is_last or (is_one_plane and x + columns == width):
            planes = num_channels * num_sections
            self._add_waiting(planes * high * width * little.itemsize)
        if box.is_last:
            self._forget()

    def _wait(self, voxels: NDArray[Any], place: tuple[int, int], height: int) -> None:
        """Put voxels (c, z, y, x) where they lie among those that wait."""
        if self._spool is None:
            self._spool = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        width, (y, x) = self._shape[3], place
        num_channels, num_sections = voxels.shape[:2]
        for z, c in product(range(num_sections), range(num_channels)):
            plane = np.ascontiguousarray(voxels[c, z])
            first = ((z * num_channels + c) * height + y) * width + x
            lines = [plane] if plane.shape[1] == width else plane
            for k, line in enumerate(lines):
                self._spool.seek((first + k * width) * voxels.itemsize)
                self._spool.write(line.data)

    def _add_waiting(self, size: int) -> None:
        assert self._spool is not None
        self._spool.seek(0)
        while size:
            content = self._spool.read(min(size, 1 << 18))
            self.digest.update(content)
            size -= len(content)

    def _forget(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def hexdigest(self) -> str:
        """Return the hash of what was added."""
        return str(self.digest.hexdigest())


def shards_of_box(
    array: zarr.Array[Any], origin: Zyx, voxels: NDArray[Any]
) -> Iterator[tuple[Zyx, NDArray[Any]]]:
    """Yield (index, voxels) of each shard that a box covers.

    Parameters
    ----------
    array : zarr array, (z, y, x) or (c, z, y, x)
        Tells the grid of shards.
    origin : (z, y, x)
        First voxel of the box: where shards begin.
    voxels : array, shape (z, y, x) or (c, z, y, x)
        All of these shards, clipped to the volume.
    """
    shape, shard = as_zyx(array.shape[-3:]), shard_shape(array)
    lengths = voxels.shape[-3:]
    stop = as_zyx(first + length for first, length in zip(origin, lengths, strict=True))
    for index in iterate_grid(Roi(origin, stop), shard):
        inside = grid_cell(index, shard, shape).relative_to(origin).slices
        yield index, voxels[(..., *inside)]


def start_slabs(
    array: zarr.Array[Any],
    origin: Zyx,
    voxels: NDArray[Any],
    threads: ThreadPoolExecutor,
) -> list[Future[None]]:
    """Have threads write the shards that a box covers.

    Parameters
    ----------
    array : zarr array, (z, y, x) or (c, z, y, x)
        To be written.
    origin : (z, y, x)
        First voxel of the box: where shards begin.
    voxels : array, shape (z, y, x) or (c, z, y, x)
        Must stay as they are until ``finish_slabs`` has returned.
    threads : ThreadPoolExecutor
        What does it.
    """
    return [
        threads.submit(_store, array, index, part)
        for index, part in shards_of_box(array, origin, voxels)
    ]


def finish_slabs(writing: Iterable[Future[None]]) -> None:
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
