"""Copy an image or labels into a store, slab by slab, in bounded memory.

::

    other threads   | read slab 1   | read slab 2   |
    some threads    | count 0 | encode, write 0 | count 1 | ...
    this thread               | hash 0          |         | ...

Intensities are counted and voxels hashed in the one pass that copies them.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import ceil, lcm, prod
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr
from numpy.typing import NDArray

from unetpipe.errors import DataError, ResourceError
from unetpipe.images import ImageReader
from unetpipe.images.partial import PartialSource, partial_label_source
from unetpipe.ingestion.label_kinds import AnnotationReader
from unetpipe.ingestion.section_statistics import SectionWatch
from unetpipe.ingestion.slabs import (
    Box,
    VoxelHash,
    cut_image,
    finish_slabs,
    ingest_label_boxes,
    num_slab_threads,
    start_slabs,
)
from unetpipe.records.sections import Sections
from unetpipe.runtime.progress import track_progress
from unetpipe.storage.ngff import Rgba, class_colours_of_ngff, ngff_channel_names
from unetpipe.storage.volumes import (
    create_volume,
    hash_sections,
    set_colours,
    set_windows,
    shard_shape,
    store_shard,
)
from unetpipe.tiling.boxes import (
    Roi,
    Zyx,
    as_zyx,
    cells_of_boxes,
    grid_cell,
    round_up,
)
from unetpipe.tiling.intensity import IntensityStatistics
from unetpipe.tiling.scale import ToldSize

logger = logging.getLogger(__name__)

MEASURED_VOXELS = 1 << 18  # that are measured at once, by each thread
BYTES_MEASURING = 24  # for each of these; of labels, for finding their ids
BYTES_OF_LIBRARIES = 1 << 24  # buffers of decoders and encoders
MOST_DEPTH = 256  # sections of a shard, where the image's own chunks are deep
SIDE_READ = 1024  # voxels along y and x, where nothing is written


@dataclass(frozen=True, slots=True)
class Layout:
    """How a volume is stored: chunk and shard along z, y, x, and the voxel size."""

    chunk: Zyx
    shard: Zyx
    voxel_size_nm: ToldSize

    def clip(self, shape: Zyx) -> "Layout":
        """Return the layout with chunks and shards no larger than the volume needs."""
        chunk = as_zyx(map(min, self.chunk, shape))
        whole = as_zyx(map(round_up, shape, chunk))
        shard = as_zyx(map(round_up, map(min, self.shard, whole), chunk))
        return Layout(chunk, shard, self.voxel_size_nm)


def fit_shard_depth(chunk: Zyx, shard: Zyx, granule: int) -> Zyx:
    """Return a shard of so many sections that each chunk of a server is fetched once.

    Examples
    --------
    >>> fit_shard_depth((8, 128, 128), (8, 1024, 1024), 64)
    (64, 1024, 1024)
    """
    depth = lcm(chunk[0], granule)
    fits = granule > 1 and shard[0] % depth and depth <= MOST_DEPTH
    return (depth, *shard[1:]) if fits else shard


@dataclass(frozen=True, slots=True)
class CopiedImage:
    """What was found while an image was copied."""

    content_sha256: str
    pixel_sha256: str
    statistics: tuple[IntensityStatistics, ...]
    sections: Sections | None = None


@dataclass(frozen=True, slots=True)
class CopiedLabels:
    """What was found while labels were copied."""

    content_sha256: str
    pixel_sha256: str


def ingest_image(
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
    totals, first_nan = [IntensityStatistics()] * reader.shape[0], ""
    spool = None if store is None else store.parent
    given = VoxelHash(hashlib.sha256(), reader.shape, spool)
    stored = given
    if is_replacing:
        stored = VoxelHash(hashlib.sha256(), reader.shape, spool)
    with ThreadPoolExecutor(num_slab_threads(), "copy") as threads:
        means = _channel_means(reader, layout, threads) if is_replacing else None
        watch = SectionWatch(reader.shape, threads)
        array = None if store is None else create_ingested_image(reader, store, layout)
        for box in ingest_label_boxes(reader, layout.shard, "image"):
            measured = measure_sections(box.voxels, threads)
            totals = sum_ingested_sections(totals, measured)
            nan = [z for z, m in enumerate(measured) if any(s.num_nan for s in m)]
            if nan and not first_nan:
                first_nan = describe_nan(box, nan[0], reader)
                array = array if is_replacing else None
            if means is not None:
                given.add(box)
                _replace(box.voxels, nan, means)
            writing: list[Future[None]] = []
            if array is not None:
                writing = start_slabs(array, box.origin, box.voxels, threads)
            stored.add(box)
            watch.add(box)
            finish_slabs(writing)
    num_nan = sum(s.num_nan for s in totals)
    if num_nan and not is_replacing:
        raise DataError(
            f"the image holds {num_nan} NaN or infinite voxels, the first at "
            f"{first_nan}; mend the file, or set ingest.nan_policy: replace to put the "
            "channel's mean"
        )
    if store:
        set_shown_range(store, reader, totals)
    hashes = stored.hexdigest(), given.hexdigest()
    return CopiedImage(*hashes, tuple(totals), watch.told())


def ingest_labels(
    reader: ImageReader, store: Path, layout: Layout, annotation: AnnotationReader
) -> CopiedLabels:
    """Copy labels into a new store as ``annotation`` translates them.

    Of labels of boxes only shards that touch one are written; the others read as
    unlabelled, and both hashes are of the boxes alone. What is wrong with labels is
    asked of ``annotation`` afterwards.
    """
    layout, partial = layout.clip(reader.zyx), partial_label_source(reader)
    boxes = partial.boxes if partial else None
    outside = annotation.stored_unlabelled if boxes else None
    array = create_volume(
        store,
        shape=reader.zyx,
        dtype=annotation.dtype,
        chunk=layout.chunk,
        shard=layout.shard,
        voxel_size_nm=layout.voxel_size_nm,
        unlabelled=outside or 0,
    )
    if colours := _choose_colours(annotation):
        set_colours(store, colours)
    if partial and boxes:
        _copy_boxes(reader, array, annotation, boxes)
        return CopiedLabels(hash_sections(array, boxes), _hash_parts(partial, layout))
    given = VoxelHash(hashlib.sha256(), reader.shape, store.parent)
    stored = VoxelHash(hashlib.sha256(), (1, *reader.zyx), store.parent)
    with ThreadPoolExecutor(num_slab_threads() + 1, "copy") as threads:
        for box in ingest_label_boxes(reader, layout.shard, "labels"):
            hashing = threads.submit(given.add, box)
            out = _translate(box, reader, annotation)
            writing = start_slabs(array, box.origin, out, threads)
            stored.add(box, out[None])
            finish_slabs([hashing, *writing])
    return CopiedLabels(stored.hexdigest(), given.hexdigest())


def _copy_boxes(
    reader: ImageReader,
    array: zarr.Array[Any],
    annotation: AnnotationReader,
    boxes: Sequence[Roi],
) -> None:
    """Write the shards that touch a box, one after another."""
    for index in track_progress(
        cells_of_boxes(boxes, shard_shape(array)), "labels", "shard"
    ):
        cell = grid_cell(index, shard_shape(array), reader.zyx)
        z, y, x = cell.slices
        voxels = reader.read_box(z.start, z.stop, y, x)
        out = _translate(Box(cell.start, voxels, is_last=True), reader, annotation)
        store_shard(array, index, out)
    annotation.foreground += [0] * (reader.zyx[0] - len(annotation.foreground))


def _translate(
    box: Box, reader: ImageReader, annotation: AnnotationReader
) -> NDArray[Any]:
    """Return a box of labels as it is stored: (z, y, x)."""
    slab, (start, y, x) = box.voxels, box.origin
    out = np.empty(slab.shape[1:], annotation.dtype)
    partial, inside = partial_label_source(reader), None
    if partial:
        stop = as_zyx(a + n for a, n in zip(box.origin, out.shape, strict=True))
        inside = partial.known(Roi(box.origin, stop))
    # A few rows at a time: what finds ids takes many times what it is given.
    step = max(1, MEASURED_VOXELS // out.shape[2])
    for z, top in product(range(len(out)), range(0, out.shape[1], step)):
        rows = slice(top, top + step)
        section = slab[0, z, rows] if annotation.palette is None else slab[:, z, rows]
        where = reader.where(start + z)
        known = None if inside is None else inside[z, rows]
        place = (start + z, y + top, x)
        out[z, rows] = annotation.translate(section, where, place, known)
    return out


def _hash_parts(partial: PartialSource, layout: Layout) -> str:
    """Return the hash of the voxels of all boxes as their files hold them, in order."""
    total = hashlib.sha256()
    for part in partial.parts:
        digest = VoxelHash(hashlib.sha256(), part.reader.shape, None)
        shard = layout.clip(part.reader.zyx).shard
        for box in ingest_label_boxes(part.reader, shard, "labels again"):
            digest.add(box)
        total.update(digest.digest.digest())
    return total.hexdigest()


def _choose_colours(annotation: AnnotationReader) -> dict[int, Rgba] | None:
    """Return the colours of cells or classes; objects are too many."""
    if annotation.kind == "instances":
        return None
    num_classes = 2 if annotation.kind == "binary" else annotation.num_classes
    return class_colours_of_ngff(num_classes, annotation.stored_unlabelled)


def largest_label_id(reader: ImageReader, depth: int) -> int:
    """Return the largest id that labels can hold; 64-bit ones are read to find out."""
    if reader.dtype.itemsize <= 4:
        return int(np.iinfo(reader.dtype).max)
    if partial := partial_label_source(reader):
        return max(largest_label_id(part.reader, depth) for part in partial.parts)
    shard = as_zyx((depth, *(min(SIDE_READ, n) for n in reader.zyx[1:])))
    return max(
        int(b.voxels.max()) for b in ingest_label_boxes(reader, shard, "largest id")
    )


def check_ingestion_memory(
    reader: ImageReader,
    layout: Layout,
    stored: np.dtype[Any],
    what: str,
    *,
    is_labels: bool = False,
) -> int:
    """Log how much memory copying takes at most, and refuse too much.

    Two boxes as read, of labels one as stored; what the file's parts are decoded to
    before they are put into a box; for each thread a shard being encoded; copies of
    voxels being counted; what libraries hold. Beside that, the libraries themselves.

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
    is_labels : bool
        They are translated on the way.

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
    rows, columns = cut_image(reader, layout.shard)[0]
    section = reader.shape[0] * rows.stop * columns.stop
    box = section * layout.shard[0]
    shard = prod(layout.shard) * reader.shape[0]
    needed: int = box * (2 * reader.dtype.itemsize + is_labels * stored.itemsize)
    threads = num_slab_threads()
    needed += _decoded_voxels(reader, box, section, rows.stop) * reader.dtype.itemsize
    needed += 2 * threads * shard * stored.itemsize
    needed += BYTES_MEASURING * min(section, MEASURED_VOXELS) * threads
    needed += BYTES_OF_LIBRARIES
    free = psutil.virtual_memory().available
    logger.info("%s: at most %d MB of memory", what, ceil(needed / 2**20))
    if needed > free:
        raise ResourceError(
            f"{what} {reader.shape} (c, z, y, x) needs {needed >> 20} MB of memory "
            f"with shards of {layout.shard[0]} sections, {free >> 20} MB are free; "
            "make ingest.shard (and ingest.chunk) smaller along z, or use more memory"
        )
    return needed


def _decoded_voxels(reader: ImageReader, box: int, section: int, rows: int) -> int:
    """Return how many voxels are decoded at once, before they are put into a box.

    Files that are read section by section are so in some threads; a page that is
    packed as a whole is decoded as a whole, however little of it is wanted.
    """
    if not reader.source.by_section:
        return box
    deep, high, wide = reader.granule
    is_whole = high > rows
    page = reader.shape[0] * high * max(wide, 1) if is_whole else section
    return int(reader.num_threads * max(section, page * deep))


def create_ingested_image(
    reader: ImageReader, store: Path, layout: Layout
) -> zarr.Array[Any]:
    """Create the empty store of an image in a layout that is clipped to it."""
    count = reader.shape[0]
    usual = [f"channel {c}" for c in range(count)] if count > 1 else ["image"]
    names = reader.channel_names or usual
    return create_volume(
        store,
        shape=reader.zyx,
        dtype=reader.dtype,
        chunk=layout.chunk,
        shard=layout.shard,
        voxel_size_nm=layout.voxel_size_nm,
        channels=ngff_channel_names(names),
    )


def set_shown_range(
    store: Path, reader: ImageReader, totals: Iterable[IntensityStatistics]
) -> None:
    """Have viewers show the grey values of a volume from the least to the greatest."""
    totals = tuple(totals)
    if reader.dtype != np.uint8 and all(s.count for s in totals):
        set_windows(store, [(s.minimum, s.maximum) for s in totals])


def measure_sections(
    slab: NDArray[Any], threads: ThreadPoolExecutor
) -> list[list[IntensityStatistics]]:
    """Return the statistics of each section's channels."""

    def measure(section: NDArray[Any]) -> list[IntensityStatistics]:
        return [_measure(np.ravel(channel)) for channel in section]

    return list(threads.map(measure, np.moveaxis(slab, 1, 0)))


def _measure(voxels: NDArray[Any]) -> IntensityStatistics:
    """Measure a few voxels at a time: the sums are exact, and the copies stay small."""
    starts = range(0, voxels.size, MEASURED_VOXELS)
    return reduce(
        IntensityStatistics.__add__,
        (IntensityStatistics.of(voxels[k : k + MEASURED_VOXELS]) for k in starts),
        IntensityStatistics(),
    )


def sum_ingested_sections(
    totals: list[IntensityStatistics], measured: Iterable[list[IntensityStatistics]]
) -> list[IntensityStatistics]:
    """Add the statistics of sections to those of all before, in order."""
    for section in measured:
        totals = [a + b for a, b in zip(totals, section, strict=True)]
    return totals


def _channel_means(
    reader: ImageReader, layout: Layout, threads: ThreadPoolExecutor
) -> NDArray[Any]:
    """Return the mean of each channel's finite voxels, shape (c, 1, 1)."""
    totals = [IntensityStatistics()] * reader.shape[0]
    for box in ingest_label_boxes(reader, layout.shard, "mean"):
        totals = sum_ingested_sections(totals, measure_sections(box.voxels, threads))
    empty = [c for c, total in enumerate(totals) if not total.count]
    if empty:
        raise DataError(
            f"{reader.where(0)}: channel {empty[0]} holds no finite voxel, so NaN "
            "cannot be replaced by its mean; leave the channel out"
        )
    return np.array([t.mean for t in totals], reader.dtype).reshape(-1, 1, 1)


def describe_nan(box: Box, section: int, reader: ImageReader) -> str:
    """Return where the first voxel of a box's section lies that is not finite."""
    c, y, x = (int(i) for i in np.argwhere(~np.isfinite(box.voxels[:, section]))[0])
    z, y, x = (a + b for a, b in zip(box.origin, (section, y, x), strict=True))
    channel = f", channel {c}" if reader.shape[0] > 1 else ""
    return f"z, y, x = {z}, {y}, {x}{channel} ({reader.where(z)})"


def _replace(slab: NDArray[Any], sections: list[int], means: NDArray[Any]) -> None:
    """Put the channel's mean where voxels of these sections are not finite."""
    for z in sections:
        section = slab[:, z]
        bad = ~np.isfinite(section)
        section[bad] = np.broadcast_to(means, section.shape)[bad]
