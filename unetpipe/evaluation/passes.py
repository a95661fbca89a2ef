"""The passes over a volume from which all its scores come.

===================  ===========================  ===================================
pass                 reads                        memory
===================  ===========================  ===================================
count_scored_voxels  boxes of bounded size        a box, and tables of counts
score_sections       boxes of bounded size, laid  a box, and pieces of a section;
                     down column by column        what is above a size lies on disk
count_baselines      sections up to a size; a     a section, or the range
                     range of sections in 3-D
measure_seams        shards, at most 128          a shard
===================  ===========================  ===================================
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.config import EvaluationConfig, WarpingThresholds
from unetpipe.evaluation.baselines import MASK_THRESHOLD, GreyRule
from unetpipe.evaluation.objects import ObjectCounts
from unetpipe.evaluation.pixels import PixelCounts
from unetpipe.evaluation.scored_volume import BOX_VOX, ScoredBox, ScoredVolume
from unetpipe.evaluation.seams import SeamJumps, choose_seam_shards
from unetpipe.evaluation.thresholds import ThresholdScores, Warping
from unetpipe.evaluation.whole_sections import (
    bytes_of_whole_section,
    true_components,
    whole_sections,
)
from unetpipe.metrics.columns import num_scoring_threads
from unetpipe.metrics.isbi import IsbiSection, score_isbi_section
from unetpipe.metrics.overlap import confusion_matrix
from unetpipe.metrics.scratch import MOST_BYTES
from unetpipe.records.metrics import OURS, Role, Seams
from unetpipe.segmentation.components import Connectivity
from unetpipe.storage.volumes import read_stored_roi
from unetpipe.targets.weight_map import separate_touching
from unetpipe.tiling.boxes import grid_cell

log = logging.getLogger(__name__)

Roles = dict[Role, list[int]]
BASE_BYTES = 320 * 2**20  # interpreter, libraries and compiled loops
# Of a thread that scores a section: bytes a voxel, and what it never exceeds.
SCORING_BYTES, MOST_SCORING_BYTES = 24, 112 * 2**20
# Of a section, or of a range of sections in 3-D, that is worked on as a whole, or
# warped at many thresholds.
MOST_WHOLE_VOXELS = 2**22


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """What a rule of grey values finds, against the truth.

    Attributes
    ----------
    rule : GreyRule
    confusions : dict
        Section with annotated voxels -> confusion matrix, rows the truth.
    objects : ObjectCounts or None
        None where the truth has no ids.
    isbi : dict
        Section that is annotated everywhere -> what it adds to the challenge's scores,
        where these are asked for.
    """

    rule: GreyRule
    confusions: dict[int, NDArray[np.int64]]
    objects: ObjectCounts | None
    isbi: dict[int, IsbiSection] = field(default_factory=dict)


def project_evaluation_memory(
    volume: ScoredVolume, *, isbi_scores: bool, baselines: bool
) -> int:
    """Return the peak resident memory of all passes, in bytes, as far as it is known.

    Nothing grows with sections but what is worked on as a whole, up to a size.
    """
    section = max(prod(box.shape[1:]) for box in volume.windows)
    ids = volume.labels.dtype.itemsize
    together = volume.image.dtype.itemsize + 1 + 3 * ids + volume.objects.dtype.itemsize
    box = volume.labels.chunks[0] * BOX_VOX**2 * (together + 40)
    scores = isbi_scores * (
        bytes_of_whole_section(volume)
        + min(4 * section, MOST_BYTES)
        + num_scoring_threads() * min(SCORING_BYTES * section, MOST_SCORING_BYTES)
    )
    whole = volume.sections_together * section if section <= MOST_WHOLE_VOXELS else 0
    cutting = baselines * (150 if volume.has_instances else 40)
    rules = whole * (together + cutting) if baselines or volume.has_ids else 0
    shard = prod(volume.records.prediction.geometry.shard) * volume.probability.shape[0]
    return int(BASE_BYTES + max(scores + box, rules, box, 12 * shard))


def count_scored_voxels(
    volume: ScoredVolume, numbers: list[int], *, baselines: bool
) -> tuple[PixelCounts, dict[str, ObjectCounts]]:
    """Count voxels of some sections: classes against the truth, ids against ids.

    Parameters
    ----------
    volume : ScoredVolume
    numbers : list of int
        Sections of one role.
    baselines : bool
        Count a constant map as well.

    Returns
    -------
    pixels : PixelCounts
    objects : dict
        Predictor -> counts; empty without instance labels.
    """
    is_binary = volume.num_classes == 2
    pixels = PixelCounts(volume.num_classes)
    names = ("unet", "constant") if baselines else ("unet",)
    objects = {
        name: ObjectCounts(by_section=not volume.objects_span_sections)
        for name in (names if volume.has_instances else ())
    }
    for box in volume.boxes(numbers):
        for number in box.numbers:
            z = box.index(number)
            truth, unknown = box.drawn[z], box.unknown[z]
            pixels.add(number, box.stored[z], truth, unknown)
            for name, counts in objects.items():
                ids = box.objects[z] if name == "unet" else np.ones_like(unknown, int)
                _add_objects(counts, box, number, ids)
        if not is_binary:
            _count_probabilities(box, pixels)
    return pixels, objects


def _add_objects(
    counts: ObjectCounts,
    box: ScoredBox,
    number: int,
    found: NDArray[Any],
    truth: NDArray[Any] | None = None,
) -> None:
    """Count the ids found in one section of a box against labels and markers."""
    z, marked = box.index(number), box.markers(number)
    if truth is None:
        truth = box.object_ids[z]
    counts.add(number, truth, found, box.unknown[z], box.field)
    if marked is not None:
        markers, places = marked
        counts.add_markers(number, markers, found[places], box.field[places])


def _count_probabilities(box: ScoredBox, pixels: PixelCounts) -> None:
    for class_ in range(pixels.num_classes):
        stored = box.class_probability(class_)
        for number in box.numbers:
            z = box.index(number)
            pixels.add_probability(class_, stored[z], box.drawn[z], box.unknown[z])


def score_sections(
    volume: ScoredVolume,
    numbers: list[int],
    bright: bool | None,
    *,
    warping: WarpingThresholds | None,
    folder: Path | None = None,
) -> tuple[dict[str, ThresholdScores], list[int]]:
    """Score the sections that are annotated everywhere, at all thresholds.

    Of a section the field of interest counts.

    Parameters
    ----------
    volume : ScoredVolume
    numbers : list of int
    bright : bool or None
        Whether cells are brighter than the rest; None: without baselines, which large
        sections go without.
    warping : "auto", "delivered", "all" or None
        Where the warping error is computed.
    folder : Path, optional
        Where large sections may wait.

    Returns
    -------
    scores : dict
        Predictor -> scores; empty if no section is annotated everywhere.
    left_out : list of int
        The other sections.
    """
    scores: dict[str, ThresholdScores] = {}
    delivered = volume.records.segmentation.threshold
    known = [z for z in numbers if volume.may_be_whole(z)]
    left_out = sorted(set(numbers).difference(known))
    at = warped_at(volume, warping)
    if prod(volume.shape[1:]) > MOST_WHOLE_VOXELS:
        bright = None  # grey values alone have a component for every few voxels
    for section in whole_sections(volume, known, bright=bright, folder=folder):
        if section.has_unknown:
            left_out.append(section.number)
            continue
        for name, proposal in section.maps.items():
            if name not in scores:
                # Baselines have no delivered masks.
                of_name = at if name == OURS or at == "all" else None
                scores[name] = ThresholdScores(warping=of_name, delivered=delivered)
            scores[name].add(section.number, proposal, section.truth)
    return scores, sorted(left_out)


def warped_at(volume: ScoredVolume, warping: WarpingThresholds | None) -> Warping:
    """Return at which thresholds sections of this size are warped."""
    if warping == "auto":
        is_large = prod(volume.shape[1:]) > MOST_WHOLE_VOXELS
        return "delivered" if is_large else "all"
    return warping


def scores_not_computed(
    volume: ScoredVolume, evaluation: EvaluationConfig
) -> tuple[str, ...]:
    """Tell which scores sections of this size go without, and why."""
    height, width = max((box.shape[1:] for box in volume.windows), key=prod)
    if height * width <= MOST_WHOLE_VOXELS:
        return ()
    because = f"a section has {height} x {width} voxels"
    found = []
    is_binary = volume.num_classes == 2
    is_auto = evaluation.warping_thresholds == "auto"
    if is_binary and evaluation.isbi_scores and evaluation.warping_error and is_auto:
        found.append(
            "the warping error is that of the delivered masks alone, at their "
            f"threshold, because {because} (evaluation.warping_thresholds: all "
            "computes it at every threshold)"
        )
    if is_binary and evaluation.baselines:
        found.append(
            "grey values were not scored over thresholds, nor cut by Otsu's and local "
            f"thresholds, because {because}"
        )
    return tuple(found)


def count_baselines(
    volume: ScoredVolume,
    numbers: list[int],
    rules: Sequence[GreyRule],
    *,
    isbi_scores: bool = False,
) -> list[RuleCounts]:
    """Count what rules of grey values find against the truth, section by section.

    Returns nothing where sections, or ranges of sections that objects span, are too
    large to be cut as a whole.
    """
    by_section = not volume.objects_span_sections
    counts = [
        RuleCounts(
            rule, {}, ObjectCounts(by_section=by_section) if volume.has_ids else None
        )
        for rule in rules
    ]
    offset = 0
    for box in volume.images(numbers):
        image = box.roi.shape[1:] if by_section else box.roi.shape
        if prod(image) > MOST_WHOLE_VOXELS:
            log.warning("no baselines of grey values: %s voxels are too many", image)
            return []
        for one in counts:
            _count_rule(one, box, offset, isbi_scores=isbi_scores)
        offset += prod(box.roi.shape)
    return counts


def count_scored_components(
    volume: ScoredVolume, numbers: list[int], folder: Path | None = None
) -> ObjectCounts | None:
    """Count the objects found against the components of a mask without ids.

    Returns None where ranges of sections that objects span are too large. Large
    sections wait in ``folder``.
    """
    by_section = not volume.objects_span_sections
    counts = ObjectCounts(by_section=by_section)
    if by_section and volume.rois is None:
        for ids in true_components(volume, numbers, folder):
            for box in volume.boxes(list(ids)):
                y, x = box.roi.slices[1:]
                for number in box.numbers:
                    found = box.objects[box.index(number)]
                    _add_objects(counts, box, number, found, ids[number][x, y].T)
        return counts
    for box in volume.images(numbers):
        image = box.roi.shape[1:] if by_section else box.roi.shape
        if prod(image) > MOST_WHOLE_VOXELS:
            log.warning("no scores of objects: %s voxels are too many", image)
            return None
        for number in box.numbers:
            _add_objects(counts, box, number, box.objects[box.index(number)])
    return counts


def _count_rule(
    counts: RuleCounts, box: ScoredBox, offset: int, *, isbi_scores: bool
) -> None:
    """Count what one rule finds in the sections of a box."""
    rule = counts.rule
    masks = np.stack([rule.mask(box.grey[box.index(z)]) for z in box.numbers])
    apart = masks
    if counts.objects is not None:
        across: Connectivity = "2d" if counts.objects.by_section else "3d"
        found = rule.objects(masks, across).astype(np.int64)
        found[found > 0] += offset
        for ids, number in zip(found, box.numbers, strict=True):
            _add_objects(counts.objects, box, number, ids)
        if rule.is_cut:
            apart = np.stack([separate_touching(ids) > 0 for ids in found])
    for mask, cells, number in zip(masks, apart, box.numbers, strict=True):
        z, inside = box.index(number), box.field_slices
        is_whole = box.roi.shape[1:] == box.volume.shape[1:]
        if isbi_scores and is_whole and not box.unknown[z][inside].any():
            counts.isbi[number] = score_isbi_section(
                cells[inside].astype(np.float32),
                box.truth[z][inside],
                thresholds=MASK_THRESHOLD,
                drawn=box.drawn[z][inside] > 0,
            )
        if not box.unknown[z].all():
            found_here = confusion_matrix(
                box.drawn[z], mask, 2, unlabelled=box.unknown[z]
            )
            before = counts.confusions.get(number, 0)
            counts.confusions[number] = before + found_here


def measure_seams(volume: ScoredVolume) -> Seams:
    """Compare jumps of probability across tile, block, part faces with those inside."""
    grids = volume.records.prediction.geometry
    pooling_grid = volume.records.model.spec.pooling_grid
    num_parts = max(1, len(volume.records.prediction.parts))
    # Of affinities those of the foreground that they make.
    channels = slice(1 if volume.records.model.spec.has_affinities else None)
    jumps = SeamJumps(grids, pooling_grid, num_parts)
    shards = choose_seam_shards(grids)
    for index in shards:
        shard = grid_cell(index, grids.shard, grids.volume_shape)
        stored = read_stored_roi(volume.probability, jumps.read_roi(shard))
        jumps.add(shard, stored[channels])
    return jumps.report(num_shards=len(shards))
