"""Copy an image or labels into a store, slab by slab, in bounded memory.

::

    file    s0 s1 s2 s3 | s4 s5 s6 s7 | s8        sections
            slab          slab          slab      as deep as a shard
    store   [shard][shard][shard]...              each slab: one layer of shards

While one slab is written, the next is read and decoded.
"""

import errno
import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from numpy.typing import NDArray

from unetpipe.annotations import AnnotationReader
from unetpipe.errors import DataError, ResourceError
from unetpipe.geometry import Roi, Zyx, as_zyx, iterate_grid, round_up
from unetpipe.images import ImageReader
from unetpipe.intensity import IntensityStatistics
from unetpipe.volumes import create_volume, set_windows, shard_shape, write_shard

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a volume is stored: chunk and shard along z, y, x, and the voxel size."""

    chunk: Zyx
    shard: Zyx
    voxel_size_nm: tuple[float, float, float]

    def clip(self, shape: Zyx) -> "Layout":
        """Return the layout with chunks and shards no larger than the volume needs."""
        chunk = as_zyx(map(min, self.chunk, shape))
        whole = as_zyx(map(round_up, shape, chunk))
        shard = as_zyx(map(round_up, map(min, self.shard, whole), chunk))
        return Layout(chunk, shard, self.voxel_size_nm)


@dataclass(frozen=True, slots=True)
class CopiedImage:
    """What was found while an image was copied."""

    content_sha256: str
    pixel_sha256: str
    statistics: tuple[IntensityStatistics, ...]


@dataclass(frozen=True, slots=True)
class CopiedLabels:
    """What was found while labels were copied."""

    content_sha256: str
    pixel_sha256: str


def copy_image(
    reader: ImageReader, store: Path | None, layout: Layout, *, nan_policy: str
) -> CopiedImage:
    """Copy an image into a new store, all channels, and measure it.

    Parameters
    ----------
    reader : ImageReader
        Integer of at most 32 bits, or floating-point.
    store : Path or None
        To be created. None: the image is only measured.
    layout : Layout
        Of the store.
    nan_policy : {"error", "replace"}
        With ``replace``, NaN and infinite voxels become the mean of their channel; the
        image is then read twice.

    Returns
    -------
    CopiedImage
        Statistics of each channel, over its finite voxels.

    Raises
    ------
    DataError
        If voxels are not finite and may not be replaced: their number, and the place
        of the first.
    """
    layout = layout.clip(reader.zyx)
    is_replacing = nan_policy == "replace" and reader.dtype.kind == "f"
    means = _channel_means(reader, layout) if is_replacing else None
    array = None if store is None else _create_image(reader, store, layout)
    totals = [IntensityStatistics()] * reader.shape[0]
    given, first_nan = hashlib.sha256(), ""
    stored = given  # until a voxel is replaced
    for start, slab in _slabs(reader, layout.shard[0]):
        for z in range(slab.shape[1]):
            section = slab[:, z]
            here = [IntensityStatistics.of(channel) for channel in section]
            totals = [a + b for a, b in zip(totals, here, strict=True)]
            if any(s.num_nan for s in here) and not first_nan:
                first_nan, stored = _first_nan(section, start + z, reader), given.copy()
            _update(given, section)
            if means is not None and first_nan:
                bad = ~np.isfinite(section)
                section[bad] = np.broadcast_to(means, section.shape)[bad]
            if stored is not given:
                _update(stored, section)
        if array is not None and (is_replacing or not first_nan):
            _write_slab(array, start, slab)
    num_nan = sum(s.num_nan for s in totals)
    if num_nan and not is_replacing:
        raise DataError(
            f"the image holds {num_nan} NaN or infinite voxels, the first at "
            f"{first_nan}; mend the file, or set ingest.nan_policy: replace to put the "
            "channel's mean"
        )
    if store and reader.dtype != np.uint8 and all(s.count for s in totals):
        set_windows(store, [(s.minimum, s.maximum) for s in totals])
    return CopiedImage(stored.hexdigest(), given.hexdigest(), tuple(totals))


def copy_labels(
    reader: ImageReader, store: Path, layout: Layout, annotation: AnnotationReader
) -> CopiedLabels:
    """Copy labels into a new store as ``annotation`` translates them.

    What is wrong with them is asked of ``annotation`` afterwards.
    """
    layout = layout.clip(reader.zyx)
    array = create_volume(
        store,
        shape=reader.zyx,
        dtype=annotation.dtype,
        chunk=layout.chunk,
        shard=layout.shard,
        voxel_size_nm=layout.voxel_size_nm,
        is_labels=True,
    )
    given, stored = hashlib.sha256(), hashlib.sha256()
    for start, slab in _slabs(reader, layout.shard[0], annotation.dtype.itemsize):
        out = np.empty(slab.shape[1:], annotation.dtype)
        for z, section in enumerate(slab[0]):
            _update(given, section)
            out[z] = annotation.translate(section, reader.where(start + z))
            _update(stored, out[z])
        _write_slab(array, start, out)
    return CopiedLabels(stored.hexdigest(), given.hexdigest())


def largest_value(reader: ImageReader, depth: int) -> int:
    """Return the largest id that labels can hold; 64-bit ones are read to find out."""
    if reader.dtype.itemsize <= 4:
        return int(np.iinfo(reader.dtype).max)
    return max(int(slab.max()) for _, slab in _slabs(reader, depth))


def check_memory(
    reader: ImageReader, layout: Layout, stored: np.dtype[Any], what: str
) -> int:
    """Log how much memory copying takes at most, and refuse too much.

    Two slabs as read and one being arranged, one as stored, the encoding of a shard,
    and 64-bit working copies of a section.

    Parameters
    ----------
    reader : ImageReader
        What is copied.
    layout : Layout
        Of the store.
    stored : dtype
        Of the store.
    what : str
        For the message.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ResourceError
        If that is more than is free.
    """
    layout = layout.clip(reader.zyx)
    section = prod(reader.shape) // reader.zyx[0]
    slab = section * layout.shard[0]
    shard = prod(layout.shard) * reader.shape[0]
    needed = slab * (3 * reader.dtype.itemsize + stored.itemsize)
    needed += 4 * shard * stored.itemsize + 24 * section
    free = psutil.virtual_memory().available
    logger.info("%s: at most %d MB of memory", what, needed >> 20)
    if needed > free:
        raise ResourceError(
            f"{what} {reader.shape} (c, z, y, x) needs {needed >> 20} MB of memory "
            f"with shards of {layout.shard[0]} sections, {free >> 20} MB are free; "
            "make ingest.shard (and ingest.chunk) smaller along z, or use more memory"
        )
    return needed


def _slabs(
    reader: ImageReader, depth: int, itemsize: int = 0
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield each slab with its first section, while the next one is being read."""
    starts = range(0, reader.zyx[0], depth)

    def read(start: int) -> NDArray[Any]:
        return reader.read_sections(start, min(start + depth, reader.zyx[0]))

    with ThreadPoolExecutor(1, "slab") as ahead:
        coming = ahead.submit(read, 0)
        for start in starts:
            slab = coming.result()
            if start + depth < reader.zyx[0]:
                coming = ahead.submit(read, start + depth)
            yield start, slab


def _create_image(reader: ImageReader, store: Path, layout: Layout) -> zarr.Array[Any]:
    count = reader.shape[0]
    names = tuple(f"channel {c}" for c in range(count)) if count > 1 else ("image",)
    return create_volume(
        store,
        shape=reader.zyx,
        dtype=reader.dtype,
        chunk=layout.chunk,
        shard=layout.shard,
        voxel_size_nm=layout.voxel_size_nm,
        channels=names,
    )


def _write_slab(array: zarr.Array[Any], start: int, slab: NDArray[Any]) -> None:
    """Write the layer of shards that a slab, (z, y, x) or (c, z, y, x), covers."""
    shape, shard = as_zyx(slab.shape[-3:]), shard_shape(array)
    roi = Roi((start, 0, 0), (start + shape[0], shape[1], shape[2]))
    for index in iterate_grid(roi, shard):
        y, x = (
            slice(i * n, (i + 1) * n) for i, n in zip(index[1:], shard[1:], strict=True)
        )
        try:
            write_shard(array, index, slab[..., y, x])
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ResourceError(
                f"no room on the disk for a volume of {array.nbytes >> 20} MB before "
                f"compression ({error}); free some, or run where there is more"
            ) from error


def _channel_means(reader: ImageReader, layout: Layout) -> NDArray[Any]:
    """Return the mean of each channel's finite voxels, shape (c, 1, 1)."""
    totals = [IntensityStatistics()] * reader.shape[0]
    for _, slab in _slabs(reader, layout.shard[0]):
        for z in range(slab.shape[1]):
            here = [IntensityStatistics.of(channel) for channel in slab[:, z]]
            totals = [a + b for a, b in zip(totals, here, strict=True)]
    empty = [c for c, total in enumerate(totals) if not total.count]
    if empty:
        raise DataError(
            f"{reader.where(0)}: channel {empty[0]} holds no finite voxel, so NaN "
            "cannot be replaced by its mean; leave the channel out"
        )
    return np.array([t.mean for t in totals], reader.dtype).reshape(-1, 1, 1)


def _first_nan(section: NDArray[Any], z: int, reader: ImageReader) -> str:
    c, y, x = (int(i) for i in np.argwhere(~np.isfinite(section))[0])
    channel = f", channel {c}" if reader.shape[0] > 1 else ""
    return f"z, y, x = {z}, {y}, {x}{channel} ({reader.where(z)})"


def _update(digest: Any, section: NDArray[Any]) -> None:
    """Add a section's voxels to a hash: C order, little-endian."""
    little = section.dtype.newbyteorder("<")
    digest.update(np.ascontiguousarray(section, little).data)
