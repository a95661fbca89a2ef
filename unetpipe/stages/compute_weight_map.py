"""Rule compute_weight_map: from labels to training target and border term."""

import hashlib
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.config import WeightMapConfig
from unetpipe.errors import DataError
from unetpipe.geometry import Zyx, as_zyx, grid_cell, grid_shape
from unetpipe.records import circumstances, read_record, write_record
from unetpipe.volumes import create_volume, open_volume, shard_shape, write_shard
from unetpipe.weight_map import (
    UNLABELLED,
    compute_border_term,
    compute_target,
    count_classes,
    separate_touching,
    to_instances,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is computed at once: a section, or with ndim 3 the volume: (z, y, x)."""

    border: NDArray[np.float32]
    target: NDArray[np.uint8]
    num_cells: list[int]


def compute_weight_map(
    *,
    ingest: Path,
    weight_map: WeightMapConfig,
    num_classes: int,
    ndim: int,
    border_store: Path,
    target_store: Path,
    record: Path,
) -> None:
    """Compute what the loss needs of one volume's labels.

    Parameters
    ----------
    ingest : Path
        ``ingest.json`` of the volume.
    weight_map : WeightMapConfig
        w0, sigma, border class.
    num_classes : int
        Classes of the network.
    ndim : 2 or 3
        2: each section by itself, streamed, in the memory of one section. 3: across
        sections, in the memory of the volume.
    border_store, target_store : Path
        Where the stores go: the border term, float32 (z, y, x), and the class of each
        voxel, uint8 (z, y, x), 255 = unlabelled. Old ones are replaced.
    record : Path
        ``weight_map.json``, written last.

    Raises
    ------
    DataError
        If the volume has no labels, or labels that the network cannot learn.
    """
    began = time.monotonic()
    volume = read_record(ingest)
    if volume["labels"] is None:
        raise DataError(
            f"volume {volume['volume']} has no labels, so no weight map; fill in the "
            "column labels of the sheet, or give it the role predict"
        )
    labels = open_volume(Path(volume["labels"]["store"]))
    partial = [
        path.with_name(f"{path.name}.partial") for path in (border_store, target_store)
    ]
    border, target = (
        _create_like(labels, path, dtype, volume, ndim, is_labels=is_labels)
        for path, dtype, is_labels in zip(
            partial, (np.float32, np.uint8), (False, True), strict=True
        )
    )
    border_hash, target_hash = hashlib.sha256(), hashlib.sha256()
    class_counts: list[list[int]] = []
    num_cells: list[int] = []
    depth = 1 if ndim == 2 else labels.shape[0]
    for z, unit in _units(labels, volume, weight_map, num_classes, depth):
        _write_unit(border, unit.border, z)
        _write_unit(target, unit.target, z)
        border_hash.update(unit.border.astype("<f4", copy=False).tobytes())
        target_hash.update(unit.target.tobytes())
        class_counts += [count_classes(s, num_classes).tolist() for s in unit.target]
        num_cells += unit.num_cells
    for path, final in zip(partial, (border_store, target_store), strict=True):
        shutil.rmtree(final, ignore_errors=True)
        path.replace(final)
    if not any(num_cells) and weight_map.enabled:
        log.warning(
            "volume %s has no cells, so its border term is 0 everywhere; check "
            "label_kind%s",
            volume["volume"],
            " and weight_map.border_class"
            if volume["labels"]["label_kind"] == "classes"
            else "",
        )
    write_record(
        record,
        {
            "volume": volume["volume"],
            "border_term": {
                "store": str(border_store),
                "content_sha256": border_hash.hexdigest(),
            },
            "target": {
                "store": str(target_store),
                "content_sha256": target_hash.hexdigest(),
            },
            "class_counts": class_counts,
            "num_cells": num_cells,
            "circumstances": circumstances(seconds=time.monotonic() - began),
        },
    )


def _create_like(
    labels: zarr.Array[Any],
    path: Path,
    dtype: Any,
    volume: dict[str, Any],
    ndim: int,
    *,
    is_labels: bool,
) -> zarr.Array[Any]:
    """Create a store shaped like the labels; with ndim 2 its shards are sections."""
    shutil.rmtree(path, ignore_errors=True)
    chunk, shard = as_zyx(labels.chunks[-3:]), shard_shape(labels)
    if ndim == 2:
        chunk, shard = (1, *chunk[1:]), (1, *shard[1:])
    return create_volume(
        path,
        shape=as_zyx(labels.shape),
        dtype=dtype,
        chunk=chunk,
        shard=shard,
        voxel_size_nm=tuple(volume["voxel_size_nm"]),
        is_labels=is_labels,
    )


def _units(
    labels: zarr.Array[Any],
    volume: dict[str, Any],
    weight_map: WeightMapConfig,
    num_classes: int,
    depth: int,
) -> Iterator[tuple[int, _Unit]]:
    for z in range(0, labels.shape[0], depth):
        ids = np.asarray(labels[z : z + depth])
        try:
            # A section without its z axis, so that cells connect within it only.
            unit = _compute_unit(
                ids[0] if depth == 1 else ids, volume["labels"], weight_map, num_classes
            )
        except DataError as error:
            where = f"section {z}" if depth == 1 else "labels"
            raise DataError(f"volume {volume['volume']}, {where}: {error}") from error
        yield z, unit


def _compute_unit(
    labels: NDArray[Any],
    description: dict[str, Any],
    weight_map: WeightMapConfig,
    num_classes: int,
) -> _Unit:
    kind, unlabelled = description["label_kind"], description["unlabelled"]
    cells = to_instances(
        labels, kind, border_class=weight_map.border_class, unlabelled=unlabelled
    )
    separated = separate_touching(cells)
    target = compute_target(
        labels, separated, kind, num_classes=num_classes, unlabelled=unlabelled
    )
    if weight_map.enabled:
        border = compute_border_term(
            separated, w0=weight_map.w0, sigma_vox=weight_map.sigma_vox
        )
        border[target == UNLABELLED] = 0
    else:
        border = np.zeros(labels.shape, np.float32)
    shape = (-1, *labels.shape[-2:])
    num_cells = [
        int(np.count_nonzero(np.unique(section))) for section in cells.reshape(shape)
    ]
    return _Unit(border.reshape(shape), target.reshape(shape), num_cells)


def _write_unit(array: zarr.Array[Any], voxels: NDArray[Any], z: int) -> None:
    """Write all shards of the sections from ``z`` on, which are whole shards."""
    shape, shard = as_zyx(array.shape), shard_shape(array)
    first = z // shard[0]
    counts = grid_shape(as_zyx((len(voxels), *shape[1:])), shard)
    for index in product(*map(range, counts)):
        number: Zyx = (first + index[0], index[1], index[2])
        roi = grid_cell(number, shard, shape)
        write_shard(array, number, voxels[roi.relative_to((z, 0, 0)).slices])
