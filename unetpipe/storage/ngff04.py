"""Copies of stores as NGFF 0.4: Zarr v2, one file a chunk, for tools that need it.

https://ngff.openmicroscopy.org/0.4/index.html. A copy grows block by block, with
receipts, and gets its metadata last.
"""

import logging
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numcodecs
import zarr

from unetpipe.errors import DataError
from unetpipe.records.receipts import FilesReceipt
from unetpipe.runtime.background import named_in_errors
from unetpipe.runtime.files import hash_file
from unetpipe.runtime.progress import track_progress
from unetpipe.storage.disks import DiskStore
from unetpipe.storage.receipts import differing_file, receipt_path
from unetpipe.storage.volumes import read_stored_roi, shard_shape
from unetpipe.tiling.boxes import Roi, as_zyx, grid_cell, iterate_grid, whole_volume

log = logging.getLogger(__name__)

VERSION = "0.4"


def copy_store(
    source: Path, target: Path, levels: Sequence[int], *, receipts: Path, identity: str
) -> None:
    """Copy some levels of an image or of labels, and describe them.

    Parameters
    ----------
    source : Path
        An NGFF store: 0.5, or an older one that is used where it is.
    target : Path
        Folder of the copy; what an interrupted call has left in it is gone on with.
    levels : sequence of int
        As ``choose_levels`` takes them; in the copy they count from 0.
    receipts : Path
        Folder of the receipts of blocks.
    identity : str
        Hash of what the store holds: receipts of another one do not count.
    """
    about = read_description(source)
    datasets = about["multiscales"][0]["datasets"]
    chosen = choose_levels(source, levels)
    group = zarr.open_group(DiskStore(target), mode="a", zarr_format=2)
    for number, level in enumerate(chosen):
        array = zarr.open_array(source / datasets[level]["path"], mode="r")
        copy = _open_copy(group, str(number), array)
        _copy_array(array, copy, target, receipts / str(number), identity)
    group.attrs.update(describe_ngff04(about, chosen))


def choose_levels(source: Path, levels: Sequence[int]) -> list[int]:
    """Return those levels that a store has, at least its coarsest."""
    count = len(read_description(source)["multiscales"][0]["datasets"])
    return [k for k in sorted(set(levels)) if k < count] or [count - 1]


def copy_labels_group(target: Path, names: Sequence[str]) -> Path:
    """Create the ``labels`` group of a copy and return its folder."""
    group = zarr.open_group(DiskStore(target / "labels"), mode="a", zarr_format=2)
    group.attrs.update({"labels": list(names)})
    return target / "labels"


def read_description(store: Path) -> dict[str, Any]:
    """Return the NGFF metadata of an image or labels, of version 0.4 or 0.5.

    Raises
    ------
    DataError
        If there are none.
    """
    attributes: Any = dict(zarr.open_group(store, mode="r").attrs)
    about: dict[str, Any] = attributes.get("ome", attributes)
    if not about.get("multiscales"):
        raise DataError(
            f"{store} has no `multiscales`, so it is no NGFF image; run the rule that "
            "writes it"
        )
    return about


def describe_ngff04(about: dict[str, Any], levels: Sequence[int]) -> dict[str, Any]:
    """Return metadata of version 0.4 that say the same of some levels, from 0 again."""
    about = deepcopy(about)
    multiscale = about["multiscales"][0]
    multiscale["version"] = VERSION
    multiscale["datasets"] = [
        {**multiscale["datasets"][level], "path": str(number)}
        for number, level in enumerate(levels)
    ]
    described: dict[str, Any] = {"multiscales": [multiscale]}
    for key in ("omero", "image-label"):
        if key in about:
            described[key] = {"version": VERSION, **about[key]}
    return described


def _open_copy(group: zarr.Group, name: str, array: zarr.Array[Any]) -> Any:
    """Open or create an array like another, in chunks of the same shape."""
    there = group.get(name)
    if isinstance(there, zarr.Array) and (there.shape, there.dtype) == (
        array.shape,
        array.dtype,
    ):
        return there
    return group.create_array(
        name,
        shape=array.shape,
        chunks=array.chunks,
        dtype=array.dtype,
        compressors=numcodecs.Blosc(cname="lz4", clevel=5),
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        overwrite=True,
    )


def _copy_array(
    array: zarr.Array[Any], copy: Any, target: Path, receipts: Path, identity: str
) -> None:
    """Copy block by block, a block being a shard, all but those with a receipt."""
    shape, unit = as_zyx(array.shape[-3:]), shard_shape(array)
    blocks = list(iterate_grid(whole_volume(shape), unit))
    told = {block: receipt_path(receipts, block) for block in blocks}
    done = {b for b, path in told.items() if not differing_file(path, target, identity)}
    log.info("%s/%s: %d of %d blocks there", target, copy.path, len(done), len(blocks))
    for block in track_progress(blocks, target.name, "block"):
        if block in done:
            continue
        with named_in_errors(f"{target}, level {copy.path}, block {block}"):
            roi = grid_cell(block, unit, shape)
            copy[(..., *roi.slices)] = read_stored_roi(array, roi)
            files = {name: hash_file(target / name) for name in _files(copy, roi)}
            FilesReceipt(files=files, identity=identity).write(told[block])


def _files(copy: Any, roi: Roi) -> Iterator[str]:
    """Yield the chunk files of a box, relative to the store."""
    channels = range(-(-copy.shape[0] // copy.chunks[0])) if copy.ndim == 4 else [None]
    for c in channels:
        for index in iterate_grid(roi, as_zyx(copy.chunks[-3:])):
            place = index if c is None else (c, *index)
            yield "/".join(map(str, (copy.path, *place)))
