"""Copies of stores as neuroglancer's precomputed volumes, levels and all.

https://github.com/google/neuroglancer/tree/master/src/datasource/precomputed. A copy
grows block by block, a block being a shard of the source, with receipts; chunks of
background alone are no files. Axes are x, y, z there::

    image/info      {"scales": [{"key": "0", "resolution": [4, 4, 50], ...}, ...]}
    image/0/0-64_0-64_0-1        one file a chunk
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images.array_source import load_format_library
from unetpipe.records.receipts import FilesReceipt
from unetpipe.runtime.background import named_in_errors
from unetpipe.runtime.files import hash_file, write_bytes_atomic
from unetpipe.runtime.progress import track_progress
from unetpipe.storage.ngff04 import read_description
from unetpipe.storage.receipts import differing_file, receipt_path
from unetpipe.storage.volumes import read_stored_roi, shard_shape
from unetpipe.tiling.boxes import (
    Roi,
    as_zyx,
    grid_cell,
    iterate_grid,
    whole_volume,
)

log = logging.getLogger(__name__)

Kind = Literal["image", "segmentation"]
INFO = "info"
MESH = "mesh"  # folder of the meshes of a segmentation
COMPRESSED = ("uint32", "uint64")  # ids that the format compresses
DTYPES = (
    *("uint8", "uint16", "uint32", "uint64"),
    *("int8", "int16", "int32", "float32"),
)


def write_precomputed(
    source: Path,
    target: Path,
    kind: Kind,
    *,
    voxel_size_nm: tuple[float, float, float],
    receipts: Path,
    identity: str,
) -> None:
    """Copy all levels of an image, or of ids.

    Parameters
    ----------
    source : Path
        An NGFF store.
    target : Path
        Folder of the copy; what an interrupted call has left in it is gone on with.
    kind : "image" or "segmentation"
        Ids have a folder ``mesh``, which others fill.
    voxel_size_nm : (z, y, x)
        Of full resolution.
    receipts : Path
        Folder of the receipts of blocks.
    identity : str
        Hash of what the store holds: receipts of another one do not count.

    Raises
    ------
    DataError
        If tensorstore is not installed, or the format has no such numbers.
    """
    datasets = read_description(source)["multiscales"][0]["datasets"]
    finest = _scale_of(datasets[0])
    for number, dataset in enumerate(datasets):
        array = zarr.open_array(source / dataset["path"], mode="r")
        if array.dtype.name not in DTYPES:
            raise DataError(
                f"{source} holds {array.dtype.name}, which precomputed volumes cannot; "
                f"they hold {', '.join(DTYPES)}: leave export_precomputed out"
            )
        size_nm = [
            size * coarse / fine
            for size, coarse, fine in zip(
                voxel_size_nm, _scale_of(dataset), finest, strict=True
            )
        ]
        spec = _describe(target, kind, array, str(number), size_nm)
        _copy_level(array, spec, target, receipts / str(number), identity)
    if kind == "segmentation":
        about = json.loads((target / INFO).read_text())
        told = json.dumps(about | {MESH: MESH}).encode()
        write_bytes_atomic(target / INFO, told)


def _scale_of(dataset: dict[str, Any]) -> list[float]:
    """Return the lengths of a voxel of a level, along z, y, x, in whatever unit."""
    found: list[float] = dataset["coordinateTransformations"][0]["scale"][-3:]
    return found


def _describe(
    target: Path, kind: Kind, array: zarr.Array[Any], key: str, size_nm: list[float]
) -> dict[str, Any]:
    """Return what tensorstore is told of a level."""
    dtype = array.dtype.name
    scale = {
        "key": key,
        "size": list(array.shape[:-4:-1]),
        "resolution": size_nm[::-1],
        "chunk_size": list(array.chunks[:-4:-1]),
        "voxel_offset": [0, 0, 0],
        "encoding": "raw",
    }
    if kind == "segmentation" and dtype in COMPRESSED:
        scale["encoding"] = "compressed_segmentation"
        scale["compressed_segmentation_block_size"] = [8, 8, 8]
    return {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{target}/"},
        "multiscale_metadata": {
            "type": kind,
            "data_type": dtype,
            "num_channels": array.shape[0] if array.ndim == 4 else 1,
        },
        "scale_metadata": scale,
    }


def _copy_level(
    array: zarr.Array[Any],
    spec: dict[str, Any],
    target: Path,
    receipts: Path,
    identity: str,
) -> None:
    """Copy block by block, all but those with a receipt."""
    library = load_format_library("tensorstore", "tensorstore", target, extra="cloud")
    copy = library.open(spec, open=True, create=True).result()
    shape, unit = as_zyx(array.shape[-3:]), shard_shape(array)
    blocks = list(iterate_grid(whole_volume(shape), unit))
    told = {block: receipt_path(receipts, block) for block in blocks}
    done = {b for b, path in told.items() if not differing_file(path, target, identity)}
    key = spec["scale_metadata"]["key"]
    log.info("%s/%s: %d of %d blocks there", target, key, len(done), len(blocks))
    for block in track_progress(blocks, target.name, "block"):
        if block in done:
            continue
        with named_in_errors(f"{target}, level {key}, block {block}"):
            roi = grid_cell(block, unit, shape)
            copy[roi.slices[::-1]].write(_as_xyzc(read_stored_roi(array, roi))).result()
            files = {name: target / name for name in _files(array, key, roi)}
            FilesReceipt(
                files={
                    name: hash_file(path)
                    for name, path in files.items()
                    if path.exists()
                },
                identity=identity,
            ).write(told[block])


def _as_xyzc(voxels: NDArray[Any]) -> NDArray[Any]:
    """Return voxels (z, y, x) or (c, z, y, x) in the order of the format."""
    return np.transpose(voxels if voxels.ndim == 4 else voxels[None])


def _files(array: zarr.Array[Any], key: str, roi: Roi) -> Iterator[str]:
    """Yield the names of the chunks of a box, relative to the copy."""
    shape, chunk = as_zyx(array.shape[-3:]), as_zyx(array.chunks[-3:])
    for index in iterate_grid(roi, chunk):
        cell = grid_cell(index, chunk, shape)
        spans = zip(cell.start[::-1], cell.stop[::-1], strict=True)
        yield f"{key}/" + "_".join(f"{start}-{stop}" for start, stop in spans)
