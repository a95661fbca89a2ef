"""Rule compute_weight_map: from labels to training target and border term."""

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import zarr

from unetpipe.config import WeightMapConfig
from unetpipe.errors import ConfigError, DataError
from unetpipe.metrics.cell_tracking import check_seg_field, field_border_vox
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.volume import IngestedVolume, StoredLabels
from unetpipe.records.weight_map import LearntTarget, StoredMap, WeightMap
from unetpipe.runtime.staging import partial_folder, scratch_folder
from unetpipe.storage.volumes import hash_sections, open_volume
from unetpipe.targets.weight_blocks import Annotation, BorderRule, CoreRule, Weigher
from unetpipe.targets.weight_map import UNLABELLED, describe_lost_cells
from unetpipe.targets.whole_volumes import (
    CountedCells,
    choose_weight_border,
    create_weight_map_like,
    weigh_all,
)
from unetpipe.tiling.boxes import as_zyx
from unetpipe.tiling.scale import ToldSize

log = logging.getLogger(__name__)


def compute_weight_map(
    *,
    ingest: Path,
    weight_map: WeightMapConfig,
    num_classes: int,
    ndim: int,
    stores: Mapping[str, Path],
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
    stores : mapping
        Where the stores go; old ones are replaced. ``border_term``: float32 (z, y, x);
        ``target``: the class of each voxel, uint8 (z, y, x), 255 = unlabelled; and
        where a network learns cores ``border`` or ``markers``: background, core and
        rim, uint8 (z, y, x); see ``unetpipe.targets.cores``.
    record : Path
        ``weight_map.json``, written last.
    field_of_interest : int or str
        ``evaluation.field_of_interest_vox``: what lies at the edge is not annotated.

    Raises
    ------
    ConfigError
        If cores are to be learnt from classes.
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
    learnt = [name for name in stores if name not in ("border_term", "target")]
    if learnt:
        _check_cells(volume, volume.labels, learnt)
    labels = open_volume(volume.labels.store)
    rim = volume.stored_vox(field_border_vox(field_of_interest))
    check_seg_field(as_zyx(labels.shape)[1:], rim)
    annotation = _annotation(volume.labels, labels, weight_map, rim)
    border_vox = _border_vox(annotation, weight_map) if learnt else 1.0
    with ExitStack() as stack:
        partial = {
            name: stack.enter_context(partial_folder(store))
            for name, store in stores.items()
        }
        scratch = record.with_name("components.zarr.partial")
        stack.enter_context(scratch_folder(scratch))
        boxes = volume.labels.rois
        outside = 0 if boxes is None else UNLABELLED
        arrays = _create(partial, labels, volume.told_size_nm, ndim, outside)
        weigher = Weigher(
            annotation,
            border=arrays["border_term"],
            target=arrays["target"],
            scratch=scratch,
            num_classes=num_classes,
            ndim=ndim,
            rule=_rule_of(weight_map, volume.voxel_size_nm),
            cores=CoreRule(border_vox, {name: arrays[name] for name in learnt}),
        )
        counted = weigh_all(weigher, volume.volume)
        content = {
            name: hash_sections(open_volume(path), boxes)
            for name, path in partial.items()
        }
    _warn(volume, weight_map, counted.num_cells, counted.num_lost)
    maps = {
        name: StoredMap(store=store, content_sha256=content[name])
        for name, store in stores.items()
    }
    written = _describe(volume.volume, maps, counted, border_vox)
    made = Circumstances.here(seconds=time.monotonic() - began)
    written.model_copy(update={"circumstances": made}).write(record)


def _create(
    folders: dict[str, Path],
    labels: zarr.Array[Any],
    voxel_size_nm: ToldSize,
    ndim: int,
    outside: int,
) -> dict[str, zarr.Array[Any]]:
    """Create the stores, by name; targets read as ``outside`` where none is written."""
    return {
        name: create_weight_map_like(
            labels,
            folder,
            voxel_size_nm,
            ndim,
            unlabelled=None if name == "border_term" else outside,
        )
        for name, folder in folders.items()
    }


def _border_vox(annotation: Annotation, weight_map: WeightMapConfig) -> float:
    """Return how wide rims are."""
    wanted = weight_map.border_vox
    width = choose_weight_border(
        annotation, None if wanted == "auto" else wanted, weight_map.border_share
    )
    log.info("rims of cells are %g voxels wide", width)
    return width


def _describe(
    volume: str, maps: dict[str, StoredMap], counted: CountedCells, border_vox: float
) -> WeightMap:
    return WeightMap(
        volume=volume,
        border_term=maps["border_term"],
        target=maps["target"],
        class_counts=tuple(map(tuple, counted.class_counts.tolist())),
        num_cells=tuple(counted.num_cells),
        num_lost=counted.num_lost,
        learnt={
            name: LearntTarget(
                store=maps[name].store,
                content_sha256=maps[name].content_sha256,
                class_counts=tuple(map(tuple, counts.tolist())),
                border_vox=border_vox,
            )
            for name, counts in counted.learnt_counts.items()
        },
    )


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


def _check_cells(
    volume: IngestedVolume, labels: StoredLabels, learnt: list[str]
) -> None:
    """Refuse cores of what tells no cells apart; say what the cells of a mask are."""
    if labels.label_kind == "classes":
        raise ConfigError(
            f"network.targets is {' and '.join(learnt)}, but the labels of volume "
            f"{volume.volume} are classes, which tell no cells apart; use labels with "
            "ids (label_kind instances), a mask (binary), or targets cells"
        )
    if labels.label_kind == "binary":
        log.warning(
            "volume %s has a mask without ids: its connected components are taken as "
            "the cells, so nothing is learnt where cells touch",
            volume.volume,
        )


def _warn(
    volume: IngestedVolume,
    weight_map: WeightMapConfig,
    num_cells: list[int],
    num_lost: int,
) -> None:
    if num_lost:
        log.warning(
            "volume %s: %s",
            volume.volume,
            describe_lost_cells(num_lost, sum(num_cells)),
        )
    has_classes = volume.labels is not None and volume.labels.label_kind == "classes"
    are_wanted = not has_classes or weight_map.border_class is not None
    if not any(num_cells) and weight_map.enabled and are_wanted:
        log.warning(
            "volume %s has no cells, so its border term is 0 everywhere; check "
            "label_kind%s",
            volume.volume,
            " and weight_map.border_class" if has_classes else "",
        )
