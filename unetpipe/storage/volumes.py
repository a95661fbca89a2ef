"""Chunked, sharded OME-Zarr: the one place that creates, opens, reads and writes it.

A store is an NGFF 0.5 image: a Zarr v3 group with array ``0`` at full resolution (and
``1``, ``2``, ... once a pyramid is built). Images and probabilities are (c, z, y, x),
labels and masks (z, y, x). Its metadata is created once; workers only open it.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import (
    BytesCodec,
    Crc32cCodec,
    ShardingCodec,
    ZstdCodec,
)
from zarr.storage import LocalStore

from unetpipe.errors import DataError, GeometryError
from unetpipe.runtime.files import write_bytes_atomic
from unetpipe.runtime.machine import enough_disk
from unetpipe.storage.documents import (
    create_array,
    open_zarr_array,
    read_zarr_group,
    update_group,
    write_group,
)
from unetpipe.storage.ngff import (
    Channel,
    Rgba,
    describe_channels,
    describe_image,
    describe_labels,
    describe_labels_group,
    set_ngff_label_colours,
    set_viewer_windows,
)
from unetpipe.storage.shard_codec import ShardFormat
from unetpipe.tiling.boxes import (
    Roi,
    Zyx,
    as_zyx,
    grid_cell,
    iterate_grid,
    whole_volume,
)
from unetpipe.tiling.scale import ToldSize

log = logging.getLogger(__name__)

# Comparing every chunk with the fill value costs more than compressing it, and a shard
# without a file could not be told from a lost one.
zarr.config.set({"array.write_empty_chunks": True})


def create_volume(
    path: Path,
    *,
    shape: Zyx,
    dtype: DTypeLike,
    chunk: Zyx,
    shard: Zyx,
    voxel_size_nm: ToldSize,
    channels: Sequence[str | Channel] | None = None,
    unlabelled: int | None = None,
) -> zarr.Array[Any]:
    """Create an empty NGFF 0.5 store with its full-resolution array.

    Parameters
    ----------
    path : Path
        Folder of the store; must not exist.
    shape, chunk, shard : (z, y, x)
        Shards are whole multiples of chunks; channels share a shard.
    dtype : dtype
        Of the voxels.
    voxel_size_nm : (z, y, x)
        Physical size of a voxel; z None: nobody knows, or sections are frames.
    channels : sequence of str or Channel, optional
        Adds a leading c axis. Without it the array is (z, y, x).
    unlabelled : int, optional
        Mark the image as labels (``image-label``), which read as this where nothing is
        written.
    """
    if path.exists():
        raise DataError(f"{path} exists already; remove it or use another name")
    name = path.name.split(".")[0]
    if unlabelled is not None:
        is_inside_image = path.parent.name == "labels"
        about = describe_labels(name, voxel_size_nm, is_inside_image=is_inside_image)
    else:
        shown = None if channels is None else tuple(map(_as_channel, channels))
        about = describe_image(name, voxel_size_nm, dtype=dtype, channels=shown)
    with enough_disk(path, "the empty store"):
        write_group(path, {"ome": about, "unetpipe": {}})
        count = () if channels is None else (len(channels),)
        single = () if channels is None else (1,)
        create_array(
            path / "0",
            shape=(*count, *shape),
            chunks=(*single, *chunk),
            shards=(*count, *shard),
            dtype=dtype,
            compressors=ZstdCodec(level=1 if np.dtype(dtype).itemsize == 1 else 0),
            fill_value=unlabelled or 0,
            dimension_names=["c", "z", "y", "x"][4 - len(count) - 3 :],
        )
        return open_volume(path, mode="r+")


def create_labels_group(path: Path, names: tuple[str, ...]) -> Path:
    """Add the ``labels`` group to a store and return its folder.

    Each name is then created inside it with ``create_volume(..., unlabelled=0)``.
    """
    write_group(path / "labels", {"ome": describe_labels_group(names)})
    return path / "labels"


def set_channels(path: Path, channels: Sequence[Channel]) -> None:
    """Give the channels of a store new names and colours, if it has others."""
    about = read_zarr_group(path)["ome"]
    describe_channels(about, channels, open_volume(path).dtype)
    update_group(path, ome=about)


def set_colours(path: Path, colours: Mapping[int, Rgba]) -> None:
    """Have viewers show labels in these colours: of all but 0; others they choose."""
    about = read_zarr_group(path)["ome"]
    set_ngff_label_colours(about, colours)
    update_group(path, ome=about)


def set_attributes(path: Path, attributes: dict[str, Any]) -> None:
    """Note the recipe of a store and the like, under ``unetpipe``."""
    update_group(path, unetpipe=attributes)


def set_windows(path: Path, windows: list[tuple[float, float]]) -> None:
    """Say which grey values viewers show as black and white, for each channel."""
    about = read_zarr_group(path)["ome"]
    set_viewer_windows(about, windows)
    update_group(path, ome=about)


def open_volume(
    path: Path, *, mode: Literal["r", "r+"] = "r", level: int = 0
) -> zarr.Array[Any]:
    """Open one resolution level of a store.

    Raises
    ------
    DataError
        If there is no such store or level.
    """
    try:
        array = open_zarr_array(path / str(level), mode)
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} has no resolution level {level} ({error}); "
            "run the rule that creates it"
        ) from error
    return array


def is_volume_store(path: Path) -> bool:
    """Return whether there is a store with its full-resolution array."""
    return (path / "0" / "zarr.json").exists()


def read_store_attributes(path: Path) -> dict[str, Any]:
    """Return what ``set_attributes`` has noted."""
    try:
        return dict(read_zarr_group(path).get("unetpipe", {}))
    except (FileNotFoundError, ValueError) as error:
        raise DataError(f"{path} is not an OME-Zarr store ({error})") from error


def read_stored_roi(array: zarr.Array[Any], roi: Roi) -> NDArray[Any]:
    """Read a box of voxels, all channels: shape (z, y, x) or (c, z, y, x).

    What is stored as ``create_volume`` asks for is decoded here, everything else by
    zarr; a damaged file too, whose errors are known.
    """
    form = _decodable(array)
    if (
        form is not None
        and roi.intersect(whole_volume(as_zyx(array.shape[-3:]))) == roi
    ):
        try:
            return _read_shards(array, form, roi)
        except (OSError, ValueError, RuntimeError) as error:
            log.debug("left to zarr: %s", error)
    return np.asarray(array[(..., *roi.slices)])


def _read_shards(array: zarr.Array[Any], form: ShardFormat, roi: Roi) -> NDArray[Any]:
    count = array.shape[:-3]
    shard, shape = shard_shape(array), as_zyx(array.shape[-3:])
    voxels = np.empty((*count, *roi.shape), array.dtype)
    for index in iterate_grid(roi, shard):
        cell = grid_cell(index, shard, shape)
        part = cell.intersect(roi)
        channels = tuple(slice(0, n) for n in count)
        inside = (*channels, *part.relative_to(cell.start).slices)
        out = voxels[(*channels, *part.relative_to(roi.start).slices)]
        form.decode(shard_path(array, index), inside, out)
    return voxels


def _decodable(array: zarr.Array[Any]) -> ShardFormat | None:
    """Return how shards are encoded, if it is as ``create_volume`` has them encoded."""
    metadata: Any = array.metadata
    if not isinstance(array.store, LocalStore) or metadata.zarr_format != 3:
        return None
    codecs = metadata.codecs
    if len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
        return None
    (sharding,) = codecs
    kinds = [tuple(map(type, c)) for c in (sharding.codecs, sharding.index_codecs)]
    is_usual = (
        kinds == [(BytesCodec, ZstdCodec), (BytesCodec, Crc32cCodec)]
        and _spelled(sharding.index_location) == "end"
        and all(
            _spelled(c[0].endian) in (None, "little")
            for c in (sharding.codecs, sharding.index_codecs)
        )
        and metadata.chunk_key_encoding.name == "default"
        and metadata.chunk_key_encoding.separator == "/"
        and array.dtype.kind in "biuf"
    )
    shards = array.shards or ()
    has_all_channels = shards[:-3] == array.shape[:-3]
    return _shard_format(array) if is_usual and has_all_channels else None


def _spelled(value: Any) -> Any:
    """Return what metadata say of a choice, which zarr before 3.4 has as an Enum."""
    return getattr(value, "value", value)


def iterate_sections(
    array: zarr.Array[Any], numbers: Iterable[int]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (z, section) in rising order, decoding each chunk once.

    A section has shape (y, x) or (c, y, x). Memory: one chunk's thickness of sections.
    """
    thickness, length = array.chunks[-3], array.shape[-3]
    slab, layer = None, -1
    for z in sorted(numbers):
        if z // thickness != layer:
            layer = z // thickness
            stop = min((layer + 1) * thickness, length)
            slab = np.asarray(array[..., layer * thickness : stop, :, :])
        yield z, np.asarray(slab)[..., z - layer * thickness, :, :]


def hash_sections(array: zarr.Array[Any], boxes: Sequence[Roi] | None = None) -> str:
    """Return a sha256 of what an array (z, y, x) holds, however it is cut.

    It is that of the sections' own sha256 in order; each is of its voxels in C order,
    little-endian. Memory: one row of chunks.

    Parameters
    ----------
    array : zarr array, (z, y, x)
    boxes : sequence of Roi, optional
        That alone hold anything: the hash is of their corners and sections, one box
        after another.
    """
    total = hashlib.sha256()
    if boxes is None:
        boxes = [whole_volume(as_zyx(array.shape))]
    else:
        total.update(repr([(box.start, box.stop) for box in boxes]).encode())
    for box in boxes:
        for digest in _digests_of_sections(array, box):
            total.update(digest)
    return total.hexdigest()


def _digests_of_sections(array: zarr.Array[Any], box: Roi) -> Iterator[bytes]:
    depth, height, _ = array.chunks
    (first, top, left), (last, low, right) = box.start, box.stop
    for z in range(first // depth * depth, last, depth):
        start, stop = max(z, first), min(z + depth, last)
        digests = [hashlib.sha256() for _ in range(start, stop)]
        for y in range(top // height * height, low, height):
            rows = slice(max(y, top), min(y + height, low))
            voxels = np.asarray(array[start:stop, rows, left:right])
            for digest, section in zip(digests, voxels, strict=True):
                little = section.dtype.newbyteorder("<")
                digest.update(np.ascontiguousarray(section, little).data)
        yield from (digest.digest() for digest in digests)


def shard_shape(array: zarr.Array[Any]) -> Zyx:
    """Return the write unit of an array."""
    return as_zyx((array.shards or array.chunks)[-3:])


def shard_path(array: zarr.Array[Any], index: Zyx) -> Path:
    """Return the file that holds one shard."""
    root = Path(str(array.store_path.store.root)) / array.store_path.path  # type: ignore[attr-defined]
    lead = ("0",) * (array.ndim - 3)
    return root.joinpath("c", *lead, *map(str, index))


def write_shard(array: zarr.Array[Any], index: Zyx, voxels: NDArray[Any]) -> str:
    """Write one whole shard as ``store_shard`` does; return the sha256 of its file."""
    digest = hashlib.sha256()
    for buffer in store_shard(array, index, voxels):
        digest.update(buffer)
    return digest.hexdigest()


def store_shard(
    array: zarr.Array[Any], index: Zyx, voxels: NDArray[Any]
) -> list[bytes]:
    """Write one whole shard and sync it; return the buffers that make up its file.

    The file is absent, old, or whole at any moment. Threads may write shards of one
    array at the same time.

    Parameters
    ----------
    array : zarr array, (z, y, x) or (c, z, y, x)
        Made by ``create_volume``.
    index : (z, y, x)
        Shard number along each axis.
    voxels : array
        The shard's voxels, clipped to the volume: exactly its write ROI.

    Raises
    ------
    GeometryError
        If the voxels are not exactly one shard: two writers could then share a file.
    ResourceError
        If the disk is full.
    """
    buffers = encode_shard(array, index, voxels)
    write_bytes_atomic(shard_path(array, index), *buffers)
    return buffers


def encode_shard(
    array: zarr.Array[Any], index: Zyx, voxels: NDArray[Any]
) -> list[bytes]:
    """Return the buffers of the file that ``store_shard`` would write.

    Raises
    ------
    GeometryError
        If the voxels are not exactly one shard.
    """
    shape = as_zyx(array.shape[-3:])
    roi = grid_cell(index, shard_shape(array), shape)
    expected = (*array.shape[:-3], *roi.shape)
    if voxels.shape != expected:
        raise GeometryError(
            f"shard {index} holds {expected} voxels, given {voxels.shape}; "
            "write whole shards only"
        )
    return _shard_format(array).encode(voxels)


def _shard_format(array: zarr.Array[Any]) -> ShardFormat:
    """Return how ``create_volume`` asked for the shards of an array to be encoded."""
    metadata: Any = array.metadata
    (sharding,) = metadata.codecs
    level, fill = sharding.codecs[-1].level, metadata.fill_value
    return ShardFormat(array.chunks, array.shards or (), array.dtype, level, fill)


def _as_channel(channel: str | Channel) -> Channel:
    return Channel(channel) if isinstance(channel, str) else channel
