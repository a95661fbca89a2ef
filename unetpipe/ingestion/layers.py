"""An image brought into its store by several jobs: each writes layers of its own.

::

    sections  0 .. 7 | 8 .. 15 | 16 .. 23 | 24 .. 31
    layer        0   |    1    |    2     |    3        whole shards, one writer
    job            part 0      |      part 1

Shards grow in a store of their own, whose name carries the hash of what decides its
bits. A layer is done when its receipt says so, which is written last: with the sha256
of its shards and the sums of its sections. The last job copies what is left, and links
the shards into the volume's store, so that they take their room on the disk once.
"""

import hashlib
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images import ImageReader
from unetpipe.images.files import Address
from unetpipe.ingestion.copying import (
    CopiedImage,
    Layout,
    create_ingested_image,
    describe_nan,
    measure_sections,
    set_shown_range,
    sum_ingested_sections,
)
from unetpipe.ingestion.section_statistics import SectionWatch
from unetpipe.ingestion.slabs import (
    Box,
    VoxelHash,
    cut_image,
    ingest_label_boxes,
    num_slab_threads,
    shards_of_box,
)
from unetpipe.records.receipts import LayerReceipt, SectionSums
from unetpipe.runtime.files import hash_file, hash_of, link_or_copy, sync_folder
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.storage.receipts import read_receipt
from unetpipe.storage.volumes import (
    is_volume_store,
    open_volume,
    shard_path,
    write_shard,
)
from unetpipe.tiling.boxes import Roi, Zyx, iterate_grid
from unetpipe.tiling.intensity import IntensityStatistics

log = logging.getLogger(__name__)


class Layers:
    """The layers of shards of one image, whoever writes them.

    Parameters
    ----------
    reader : ImageReader
        Without voxels to be replaced. An image that is used where it is has receipts
        only.
    layout : Layout
        Of the volume's store.
    folder : Path
        Where the shards of all jobs grow, in ``<id>/``.
    """

    def __init__(self, reader: ImageReader, layout: Layout, folder: Path) -> None:
        self._reader, self._layout = reader, layout.clip(reader.zyx)
        self._identity = hash_of(_identity(reader, self._layout))
        self.home = folder / self._identity[:8]
        self._store = self.home / "image.ome.zarr"
        self._depth = self._layout.shard[0]
        self.num_layers = -(-reader.zyx[0] // self._depth)

    def copy(self, numbers: Sequence[int]) -> int:
        """Write those of these layers that are not whole; return how many they were.

        Raises
        ------
        DataError
            If voxels are not finite.
        ResourceError
            If the disk is full; finished layers are kept.
        """
        array = self._open()
        with ThreadPoolExecutor(num_slab_threads(), "copy") as threads:
            todo = [n for n in numbers if not self._is_whole(n, array, threads)]
            log.info("%d of %d layers to copy", len(todo), len(numbers))
            shard, layer = self._layout.shard, _Layer()
            for box in ingest_label_boxes(self._reader, shard, "image", todo):
                self._copy(box, layer, array, threads)
                if box.is_last:
                    self._finish(box.origin[0] // self._depth, layer)
                    layer = _Layer()
        return len(todo)

    def assemble(self, store: Path | None) -> CopiedImage:
        """Make the volume's store of all layers, and measure it as a whole.

        Parameters
        ----------
        store : Path or None
            To be created. None: the image is used where it is.

        Returns
        -------
        CopiedImage
            As ``ingestion.ingest_image`` returns it. The hashes are of voxels in their
            order, so they are read once more, by this one job.
        """
        self.copy(range(self.num_layers))
        receipts = [LayerReceipt.read(self._receipt(n)) for n in range(self.num_layers)]
        totals = [IntensityStatistics()] * self._reader.shape[0]
        for receipt in receipts:
            totals = sum_ingested_sections(totals, map(_read_sums, receipt.sections))
        if store:
            array = create_ingested_image(self._reader, store, self._layout)
            _link_shards(open_volume(self._store), array, self._grid())
            set_shown_range(store, self._reader, totals)
        folder = self.home if store is None else store.parent
        digest = VoxelHash(hashlib.sha256(), self._reader.shape, folder)
        with ThreadPoolExecutor(num_slab_threads(), "measure") as threads:
            watch = SectionWatch(self._reader.shape, threads)
            for box in self._boxes(store):
                digest.add(box)
                watch.add(box)
        hashes = digest.hexdigest(), digest.hexdigest()
        return CopiedImage(*hashes, tuple(totals), watch.told())

    def _open(self) -> zarr.Array[Any] | None:
        """Return the array to fill; whichever job comes first creates it."""
        if self._reader.ready_store:
            return None
        if not is_volume_store(self._store):
            whose = f"{socket.gethostname()}-{os.getpid()}"
            partial = self.home / f"{whose}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            create_ingested_image(self._reader, partial, self._layout)
            try:
                partial.rename(self._store)
            except OSError:  # another job was first; its store is the same
                shutil.rmtree(partial)
                if not is_volume_store(self._store):
                    raise
        return open_volume(self._store, mode="r+")

    def _copy(
        self,
        box: Box,
        layer: "_Layer",
        array: zarr.Array[Any] | None,
        threads: ThreadPoolExecutor,
    ) -> None:
        measured = measure_sections(box.voxels, threads)
        _check_finite(box, measured, self._reader)
        writing = {}
        if array is not None:
            for index, voxels in shards_of_box(array, box.origin, box.voxels):
                writing[_name(index)] = threads.submit(
                    write_shard, array, index, voxels
                )
        layer.files |= {name: shard.result() for name, shard in writing.items()}
        if not layer.sections:
            layer.sections = measured
        else:
            pairs = zip(layer.sections, measured, strict=True)
            layer.sections = [
                sum_ingested_sections(before, [own]) for before, own in pairs
            ]

    def _finish(self, number: int, layer: "_Layer") -> None:
        LayerReceipt(
            identity=self._identity,
            files=layer.files,
            sections=tuple(tuple(map(_sums, section)) for section in layer.sections),
        ).write(self._receipt(number))

    def _is_whole(
        self, number: int, array: zarr.Array[Any] | None, threads: ThreadPoolExecutor
    ) -> bool:
        """Tell whether a layer has a receipt, and its shards are those it tells of."""
        problem, receipt = read_receipt(
            self._receipt(number), LayerReceipt, self._identity
        )
        if problem or receipt is None:
            return False
        if array is None:
            return True
        paths = {_name(i): shard_path(array, i) for i in self._grid([number])}
        if not all(path.exists() for path in paths.values()):
            return False
        found = dict(zip(paths, threads.map(hash_file, paths.values()), strict=True))
        return found == receipt.files

    def _grid(self, numbers: Sequence[int] | None = None) -> Iterator[Zyx]:
        """Yield the shards of some layers, else of all."""
        depth, height, width = self._reader.zyx
        for number in range(self.num_layers) if numbers is None else numbers:
            start = number * self._depth
            stop = min(start + self._depth, depth)
            layer = Roi((start, 0, 0), (stop, height, width))
            yield from iterate_grid(layer, self._layout.shard)

    def _receipt(self, number: int) -> Path:
        return self.home / "receipts" / f"{number}.json"

    def _boxes(self, store: Path | None) -> Iterator[Box]:
        """Yield what is stored, in order of z, each box read while one is used."""
        reader, shard = self._reader, self._layout.shard
        if store is None:
            yield from ingest_label_boxes(reader, shard, "hash")
            return
        array = open_volume(store)
        cuts = cut_image(reader, shard)
        todo = [(n * self._depth, *cut) for n in range(self.num_layers) for cut in cuts]

        def read(place: int) -> NDArray[Any]:
            start, rows, columns = todo[place]
            return np.asarray(array[:, start : start + self._depth, rows, columns])

        with ThreadPoolExecutor(1, "slab") as ahead:
            coming = ahead.submit(read, 0)
            for place, (start, rows, columns) in enumerate(todo):
                voxels = coming.result()
                if place + 1 < len(todo):
                    coming = ahead.submit(read, place + 1)
                is_last = (place + 1) % len(cuts) == 0
                yield Box((start, rows.start, columns.start), voxels, is_last)


@dataclass
class _Layer:
    """What is known of a layer while its boxes are written."""

    files: dict[str, str] = field(default_factory=dict)
    sections: list[list[IntensityStatistics]] = field(default_factory=list)


def _identity(reader: ImageReader, layout: Layout) -> dict[str, Any]:
    """Return what decides the shards: files, what is read and how, and the grid."""
    return {
        "files": [_identify(path) for path in reader.source.files],
        "axes": reader.plan.letters,
        "time": reader.plan.time,
        "channels": reader.plan.channels,
        "shape": reader.shape,
        "dtype": str(reader.dtype),
        "chunk": layout.chunk,
        "shard": layout.shard,
        "code": code_fingerprint("unetpipe.ingestion.layers"),
    }


def _identify(path: Path) -> list[str | int]:
    if isinstance(path, Address):
        return [str(path), path.num_bytes, path.sha256]
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns]


def _check_finite(
    box: Box,
    measured: list[list[IntensityStatistics]],
    reader: ImageReader,
) -> None:
    counts = [sum(channel.num_nan for channel in section) for section in measured]
    if not any(counts):
        return
    z = next(z for z, count in enumerate(counts) if count)
    start = box.origin[0]
    raise DataError(
        f"sections {start} to {start + len(counts) - 1} of the image hold "
        f"{sum(counts)} NaN or infinite voxels, the first at "
        f"{describe_nan(box, z, reader)}; mend the file, or set "
        "ingest.parts: 1 and ingest.nan_policy: replace to put the channel's mean"
    )


def _link_shards(
    source: zarr.Array[Any], target: zarr.Array[Any], indices: Iterator[Zyx]
) -> None:
    """Give shards a second name; where the disk has no links, copy them."""
    folders = set()
    for index in indices:
        old, new = shard_path(source, index), shard_path(target, index)
        new.parent.mkdir(parents=True, exist_ok=True)
        folders.add(new.parent)
        link_or_copy(old, new)
    for folder in folders:
        sync_folder(folder)


def _name(index: Zyx) -> str:
    return "/".join(map(str, index))


def _sums(measured: IntensityStatistics) -> SectionSums:
    # Sums of floating-point numbers are fractions: "p/q" as text.
    values = asdict(measured)
    return SectionSums(
        **{k: str(v) if isinstance(v, Fraction) else v for k, v in values.items()}
    )


def _read_sums(section: Sequence[SectionSums]) -> list[IntensityStatistics]:
    read: list[IntensityStatistics] = []
    for channel in section:
        values: dict[str, Any] = {
            k: Fraction(v) if isinstance(v, str) else v
            for k, v in channel.to_json().items()
        }
        read.append(IntensityStatistics(**values))
    return read
