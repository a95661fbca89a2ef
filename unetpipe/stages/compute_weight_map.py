"""Rule compute_weight_map: from labels to training target and border term."""

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unetpipe.config import WeightMapConfig
from unetpipe.errors import DataError
from unetpipe.metrics.cell_tracking import check_field, field_border_vox
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.volume import IngestedVolume, StoredLabels
from unetpipe.records.weight_map import StoredMap, WeightMap
from unetpipe.runtime.staging import partial_folder, scratch_folder
from unetpipe.storage.volumes import (
    create_volume,
    hash_sections,
    open_volume,
    shard_shape,
)
from unetpipe.targets.weight_blocks import Annotation, BorderRule, Weigher
from unetpipe.targets.weight_map import tell_lost
from unetpipe.tiling.boxes import Zyx, as_zyx

log = logging.getLogger(__name__)

# With ndim 3: blocks with their halo fit into memory, and patches read little.
CHUNK_3D: Zyx = (32, 64, 64)
SHARD_3D: Zyx = (64, 256, 256)


def compute_weight_map(
    *,
    ingest: Path,
    weight_map: WeightMapConfig,
    num_classes: int,
    ndim: int,
    border_store: Path,
    target_store: Path,
    record: Path,
    field_of_interest: int | str = 0,
) -> None:
    """Compute what the loss needs of one volume's labels, block by block.

    Parameters
    ----------
    ingest : Path
        ``ingest.json`` of the volume.
    weight_map : WeightMapConfig
        w0, sigma, border class.
    num_classes : int
        Classes of the network.
    ndim : 2 or 3
        2: each section by itself; 3: across sections.
    border_store, target_store : Path
        Where the stores go: the border term, float32 (z, y, x), and the class of each
        voxel, uint8 (z, y, x), 255 = unlabelled. Old ones are replaced.
    record : Path
        ``weight_map.json``, written last.
    field_of_interest : int or str
        ``evaluation.field_of_interest_vox``: what lies at the edge is not annotated.

    Raises
    ------
    DataError
        If the volume has no labels, or labels that the network cannot learn.
    ResourceError
        If memory or disk do not suffice.
    """
    began = time.monotonic()
    volume = IngestedVolume.read(ingest)
    if volume.labels is None:
        raise DataError(
            f"volume {volume.volume} has no labels, so no weight map; fill in the "
            "column labels of the sheet, or give it the role predict"
        )
    labels = open_volume(volume.labels.store)
    rim = field_border_vox(field_of_interest)
    check_field(as_zyx(labels.shape)[1:], rim)
    with ExitStack() as stack:
        partial = {
            "border_term": stack.enter_context(partial_folder(border_store)),
            "target": stack.enter_context(partial_folder(target_store)),
        }
        scratch = border_store.with_name("components.zarr.partial")
        stack.enter_context(scratch_folder(scratch))
        border, target = (
            _create_like(labels, partial[name], dtype, volume, ndim)
            for name, dtype in (("border_term", np.float32), ("target", np.uint8))
        )
        weigher = Weigher(
            _annotation(volume.labels, labels, weight_map, rim),
            border=border,
            target=target,
            scratch=scratch,
            num_classes=num_classes,
            ndim=ndim,
            rule=BorderRule(
                weight_map.w0 if weight_map.enabled else 0.0,
                weight_map.sigma_vox,
                volume.voxel_size_nm,
            ),
        )
        class_counts, num_cells, num_lost = _weigh_all(weigher, volume.volume)
        content = [hash_sections(open_volume(path)) for path in partial.values()]
    _warn(volume, weight_map, num_cells, num_lost)
    border_sha256, target_sha256 = content
    WeightMap(
        volume=volume.volume,
        border_term=StoredMap(store=border_store, content_sha256=border_sha256),
        target=StoredMap(store=target_store, content_sha256=target_sha256),
        class_counts=tuple(map(tuple, class_counts)),
        num_cells=tuple(num_cells),
        num_lost=num_lost,
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)


def _annotation(
    stored: StoredLabels,
    labels: zarr.Array[Any],
    weight_map: WeightMapConfig,
    rim_vox: int,
) -> Annotation:
    return Annotation(
        labels,
        kind=stored.label_kind,
        unlabelled=stored.unlabelled,
        border_class=weight_map.border_class,
        rim_vox=rim_vox,
    )


def _create_like(
    labels: zarr.Array[Any],
    path: Path,
    dtype: Any,
    volume: IngestedVolume,
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
        voxel_size_nm=volume.voxel_size_nm,
        is_labels=np.dtype(dtype) == np.uint8,
    )


def _weigh_all(weigher: Weigher, volume: str) -> tuple[list[list[int]], list[int], int]:
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


def _warn(
    volume: IngestedVolume,
    weight_map: WeightMapConfig,
    num_cells: list[int],
    num_lost: int,
) -> None:
    if num_lost:
        log.warning("volume %s: %s", volume.volume, tell_lost(num_lost, sum(num_cells)))
    if not any(num_cells) and weight_map.enabled:
        _warn_of_no_cells(volume)


def _warn_of_no_cells(volume: IngestedVolume) -> None:
    has_classes = volume.labels is not None and volume.labels.label_kind == "classes"
    log.warning(
        "volume %s has no cells, so its border term is 0 everywhere; check "
        "label_kind%s",
        volume.volume,
        " and weight_map.border_class" if has_classes else "",
    )
