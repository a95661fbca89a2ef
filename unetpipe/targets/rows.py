"""The sheet's training and validation rows: opened, checked, described."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ConfigError
from unetpipe.records.volume import IngestedVolume
from unetpipe.records.weight_map import LearntTarget, WeightMap
from unetpipe.runtime.files import hash_of
from unetpipe.runtime.machine import GIB
from unetpipe.storage.volumes import open_volume
from unetpipe.targets.annotated import (
    AnnotatedRow,
    AnnotatedVolume,
    ArrayLike,
    Rows,
)
from unetpipe.targets.boxed_array import BoxedArray
from unetpipe.targets.cores import NUM_LEARNT
from unetpipe.targets.likeness import describe_learnt
from unetpipe.targets.weight_map import describe_lost_cells
from unetpipe.tiling.boxes import Roi
from unetpipe.tiling.intensity import mean_and_std
from unetpipe.tiling.unet_spec import Targets

# Volumes of fewer bytes are read once, larger ones patch by patch.
LARGEST_IN_MEMORY = 2 * GIB


def open_annotated_rows(
    rows: Sequence[AnnotatedRow],
    role: str,
    num_classes: int,
    *,
    with_border: bool,
    targets: Targets = "cells",
) -> Rows:
    """Open what is annotated for one role: images, targets, weights of borders.

    Parameters
    ----------
    rows : sequence of AnnotatedRow
        Of the sheet.
    role : "train" or "validate"
        Rows in other roles are left out.
    num_classes : int
        Classes of the network.
    with_border : bool
        Whether the border term weighs the loss.
    targets : "cells", "border", "markers" or "affinities"
        What the loss compares with.

    Raises
    ------
    ConfigError
        If a row names a section that is not there, a weight map was computed for
        another number of classes, or affinities are to be learnt from labels without
        ids.
    """
    num_learnt = NUM_LEARNT if targets in ("border", "markers") else num_classes
    found = Rows([], np.zeros(num_learnt, np.int64), [], [])
    cells: list[int] = []
    told_by: list[tuple[IngestedVolume, WeightMap, tuple[int, ...]]] = []
    for row in rows:
        if row.role != role:
            continue
        volume = IngestedVolume.read(row.ingest)
        weights = WeightMap.read(row.weight_map)
        whole = row.sections is None
        numbers = tuple(sorted(range(volume.shape[0]) if whole else row.sections or ()))
        learnt = _learnt_of(weights, targets)
        counts = _counts_of(numbers, volume, weights, num_classes)
        if learnt:
            counts = np.array(learnt.class_counts, np.int64)[list(numbers)]
        found.class_counts[:] += counts.sum(axis=0)
        cells += [weights.num_cells[z] for z in numbers if weights.num_cells[z]]
        found.lost.extend(_oddities(volume, weights, targets))
        known = tuple(z for z, c in zip(numbers, counts, strict=True) if c.any())
        told_by.append((volume, weights, known or numbers))
        annotated = _open_annotated(volume, weights, learnt, numbers, counts)
        pairs: dict[str, str] = {}
        if targets == "affinities":
            annotated, pairs = _with_ids(annotated, volume)
        found.volumes.append(
            annotated if with_border else replace(annotated, border=None)
        )
        found.identity.append(
            {
                "volume": volume.volume,
                "sections": list(numbers),
                "image": volume.image.content_sha256,
                "statistics": hash_of([c.to_json() for c in volume.statistics]),
                "target": weights.target.content_sha256,
                **({"learnt": learnt.content_sha256} if learnt else {}),
                **pairs,
                "border_term": weights.border_term.content_sha256
                if with_border
                else None,
            }
        )
        found.empty_sections.extend(
            f"{volume.volume} section {z}"
            for z, of_section in zip(numbers, counts, strict=True)
            if of_section[0] and not of_section[1:].any()  # unknown is not empty
        )
    return replace(
        found,
        has_ids=any(v.instances is not None for v in found.volumes),
        cells_per_section=sum(cells) / len(cells) if cells else 0.0,
        learnt=describe_learnt(told_by),
    )


def _oddities(
    volume: IngestedVolume, weights: WeightMap, targets: Targets
) -> Iterator[str]:
    """Say which cells of a volume cannot be learnt."""
    if weights.num_lost:
        told = describe_lost_cells(weights.num_lost, sum(weights.num_cells))
        yield f"volume {volume.volume}: {told}"
    if targets != "cells" and volume.labels and volume.labels.label_kind == "binary":
        yield (
            f"volume {volume.volume} has a mask without ids: its components are taken "
            f"as the cells, so network.targets {targets} learns nothing where cells "
            "touch"
        )


def _with_ids(
    annotated: AnnotatedVolume, volume: IngestedVolume
) -> tuple[AnnotatedVolume, dict[str, str]]:
    """Return a volume whose ids are at hand for each patch, and their hash.

    Raises
    ------
    ConfigError
        If labels do not tell cells apart.
    """
    labels = volume.labels
    if labels is None or labels.label_kind != "instances":
        kind = labels.label_kind if labels else "none"
        raise ConfigError(
            f"network.targets is affinities, which are learnt from ids of cells, but "
            f"the labels of volume {volume.volume} are {kind}; use targets cells, or "
            "labels with ids (label_kind instances)"
        )
    ids = _load(labels.store, labels.rois)
    return replace(annotated, instances=ids), {"ids": labels.content_sha256}


def _counts_of(
    sections: tuple[int, ...],
    volume: IngestedVolume,
    weights: WeightMap,
    num_classes: int,
) -> NDArray[np.int64]:
    """Return the known voxels of each class in each section: shape (n, k)."""
    counts = np.array(weights.class_counts, np.int64)
    if counts.shape[1] != num_classes:
        raise ConfigError(
            f"the weight map of volume {volume.volume} has {counts.shape[1]} "
            f"classes, network.num_classes is {num_classes}; compute it again"
        )
    if sections and sections[-1] >= len(counts):
        raise ConfigError(
            f"the sheet names section {sections[-1]} of volume {volume.volume}, "
            f"which has sections 0 to {len(counts) - 1}; correct the sheet"
        )
    of_sections: NDArray[np.int64] = counts[list(sections)]
    return of_sections


def _learnt_of(weights: WeightMap, targets: Targets) -> LearntTarget | None:
    """Return the target with cores, if the network learns one."""
    if targets not in ("border", "markers"):
        return None
    if targets not in weights.learnt:
        raise ConfigError(
            f"the weight map of volume {weights.volume} has no target "
            f"{targets}, which network.targets asks for; compute it again"
        )
    return weights.learnt[targets]


def _open_annotated(
    volume: IngestedVolume,
    weights: WeightMap,
    learnt: LearntTarget | None,
    sections: tuple[int, ...],
    counts: NDArray[np.int64],
) -> AnnotatedVolume:
    mean, std = mean_and_std(volume.intensities)
    labels = volume.labels
    has_ids = labels is not None and labels.label_kind == "instances"
    boxes = labels.rois if labels else None
    return AnnotatedVolume(
        name=volume.volume,
        image=_load(volume.image.store),
        target=_load(weights.target.store, boxes),
        border=_load(weights.border_term.store, boxes),
        mean=mean,
        std=std,
        sections=sections,
        num_known=tuple(counts.sum(axis=1).tolist()),
        num_foreground=tuple(counts[:, 1:].sum(axis=1).tolist()),
        # Read when objects are scored, and only then.
        instances=open_volume(labels.store) if labels and has_ids else None,
        unlabelled=labels.unlabelled if labels and has_ids else None,
        voxel_size_nm=volume.voxel_size_nm,
        is_size_known=volume.known_size_nm is not None,
        percentiles=volume.percentiles,
        boxes=boxes,
        learnt=_load(learnt.store, boxes) if learnt else None,
    )


def _load(store: Path, boxes: Sequence[Roi] | None = None) -> ArrayLike:
    """Return a volume as an array in memory if it is small, else as it lies on disk.

    Of one that holds anything in boxes alone, these are what has to be small.
    """
    array: Any = open_volume(store)
    if boxes is not None:
        num_bytes = sum(box.num_voxels for box in boxes) * array.dtype.itemsize
        return BoxedArray(array, boxes) if num_bytes <= LARGEST_IN_MEMORY else array
    return np.asarray(array[...]) if array.nbytes <= LARGEST_IN_MEMORY else array
