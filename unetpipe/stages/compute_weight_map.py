"""Rule compute_weight_map: from labels to training target and border term."""

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from unetpipe.config import WeightMapConfig
from unetpipe.errors import DataError
from unetpipe.metrics.cell_tracking import check_field, field_border_vox
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.volume import IngestedVolume, StoredLabels
from unetpipe.records.weight_map import StoredMap, WeightMap
from unetpipe.runtime.staging import partial_folder, scratch_folder
from unetpipe.storage.volumes import hash_sections, open_volume, set_fill_value
from unetpipe.targets.weight_blocks import Annotation, BorderRule, Weigher
from unetpipe.targets.weight_map import UNLABELLED, tell_lost
from unetpipe.targets.whole_volumes import create_like, weigh_all
from unetpipe.tiling.boxes import as_zyx

log = logging.getLogger(__name__)


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
        size_nm, boxes = volume.voxel_size_nm, volume.labels.rois
        border, target = (
            create_like(labels, partial[name], dtype, size_nm, ndim)
            for name, dtype in (("border_term", np.float32), ("target", np.uint8))
        )
        if boxes is not None:
            target = set_fill_value(partial["target"], UNLABELLED)
        weigher = Weigher(
            _annotation(volume.labels, labels, weight_map, rim),
            border=border,
            target=target,
            scratch=scratch,
            num_classes=num_classes,
            ndim=ndim,
            rule=_rule_of(weight_map, size_nm),
        )
        counted = weigh_all(weigher, volume.volume)
        border_sha256, target_sha256 = (
            hash_sections(open_volume(path), boxes) for path in partial.values()
        )
    _warn(volume, weight_map, counted.num_cells, counted.num_lost)
    WeightMap(
        volume=volume.volume,
        border_term=StoredMap(store=border_store, content_sha256=border_sha256),
        target=StoredMap(store=target_store, content_sha256=target_sha256),
        class_counts=tuple(map(tuple, counted.class_counts.tolist())),
        num_cells=tuple(counted.num_cells),
        num_lost=counted.num_lost,
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)


def _rule_of(
    weight_map: WeightMapConfig, voxel_size_nm: tuple[float, float, float]
) -> BorderRule:
    w0 = weight_map.w0 if weight_map.enabled else 0.0
    return BorderRule(w0, weight_map.sigma_vox, voxel_size_nm)


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
        boxes=stored.rois,
    )


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
