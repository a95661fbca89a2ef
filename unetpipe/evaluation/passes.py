"""The passes over a volume from which all its scores come.

==================  ==========================  ===================================
pass                reads                       memory
==================  ==========================  ===================================
count_voxels        boxes of bounded size       a box, and tables of counts
score_sections      whole sections, one by one  a section, or a few small ones
count_rules         the same; a range of        a section, or the range
                    sections in 3-D
measure_seams       shards, at most 128         a shard
==================  ==========================  ===================================
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.evaluation.baselines import GreyRule
from unetpipe.evaluation.objects import ObjectCounts
from unetpipe.evaluation.pixels import PixelCounts
from unetpipe.evaluation.scored_volume import BOX_VOX, ScoredBox, ScoredVolume
from unetpipe.evaluation.seams import SeamJumps, choose_shards
from unetpipe.evaluation.thresholds import ThresholdScores
from unetpipe.metrics.overlap import confusion_matrix
from unetpipe.records.metrics import Role, Seams
from unetpipe.storage.volumes import read_roi
from unetpipe.tiling.boxes import grid_cell

log = logging.getLogger(__name__)

Roles = dict[Role, list[int]]
BASE_BYTES = 320 * 2**20  # interpreter, libraries and compiled loops
MOST_WATERSHED_VOXELS = 2**24  # of a section, or of a range of sections in 3-D
SHADES = 4.0  # standard deviations of grey value that a map from 0 to 1 spans


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
    """

    rule: GreyRule
    confusions: dict[int, NDArray[np.int64]]
    objects: ObjectCounts | None


def project_memory(volume: ScoredVolume, *, isbi_scores: bool, baselines: bool) -> int:
    """Return the peak resident memory of all passes, in bytes, as far as it is known.

    The working copies of a section were measured: 2048 x 2048, warping included.
    """
    section, depth = prod(volume.shape[1:]), volume.sections_together
    ids = volume.labels.dtype.itemsize
    together = volume.image.dtype.itemsize + 1 + 3 * ids + volume.objects.dtype.itemsize
    cutting = 150 if volume.has_instances else 40
    working = max(80 * isbi_scores, cutting * baselines)
    whole = section * (depth * together + working) if working else 0
    box = volume.labels.chunks[0] * BOX_VOX**2 * (together + 40)
    shard = prod(volume.records.prediction.geometry.shard) * volume.probability.shape[0]
    return int(BASE_BYTES + max(whole, box, 12 * shard))


def count_voxels(
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
    counts: ObjectCounts, box: ScoredBox, number: int, found: NDArray[Any]
) -> None:
    """Count the ids found in one section of a box against labels and markers."""
    z, markers = box.index(number), box.markers(number)
    counts.add(number, box.object_ids[z], found, box.unknown[z], box.field)
    if markers is not None:
        counts.add_markers(number, markers, found, box.field)


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
    with_warping: bool,
) -> tuple[dict[str, ThresholdScores], list[int]]:
    """Score the sections that are annotated everywhere, at all thresholds.

    Of a section the field of interest counts.

    Returns
    -------
    scores : dict
        Predictor -> scores; empty if no section is annotated everywhere.
    left_out : list of int
        The other sections.
    """
    scores: dict[str, ThresholdScores] = {}
    delivered = volume.records.segmentation.threshold
    left_out = []
    for box in volume.whole_sections(numbers):
        for number in box.numbers:
            z = box.index(number)
            inside = box.field_slices
            if box.unknown[z][inside].any():
                left_out.append(number)
                continue
            for name, probability in _maps(volume, box, number, bright):
                of_name = scores.setdefault(
                    name,
                    ThresholdScores(with_warping=with_warping, delivered=delivered),
                )
                cells, drawn = (a[z][inside] > 0 for a in (box.truth, box.drawn))
                of_name.add(number, probability[inside], cells, drawn)
    return scores, left_out


def _maps(
    volume: ScoredVolume, box: ScoredBox, number: int, bright: bool | None
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield predictor and probability of one section."""
    yield "unet", box.probability(number)
    if bright is None:
        return
    intensity = volume.intensity
    grey = box.grey[box.index(number)].astype(np.float32)
    shade = (grey - intensity.mean) / (SHADES * intensity.std)
    shade = 0.5 + (shade if bright else -shade)
    yield "grey value", np.clip(shade, 0, 1).astype(np.float32)
    yield "constant", np.full(grey.shape, 0.5, np.float32)


def count_rules(
    volume: ScoredVolume, numbers: list[int], rules: Sequence[GreyRule]
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
    for box in _images(volume, numbers):
        image = box.roi.shape[1:] if by_section else box.roi.shape
        if prod(image) > MOST_WATERSHED_VOXELS:
            log.warning("no baselines of grey values: %s voxels are too many", image)
            return []
        for one in counts:
            _count_rule(one, box, offset)
        offset += prod(box.roi.shape)
    return counts


def count_components(volume: ScoredVolume, numbers: list[int]) -> ObjectCounts | None:
    """Count the objects found against the components of a mask without ids.

    Returns None where objects span more sections than can be labelled as a whole.
    """
    by_section = not volume.objects_span_sections
    counts = ObjectCounts(by_section=by_section)
    for box in _images(volume, numbers):
        if not by_section and prod(box.roi.shape) > MOST_WATERSHED_VOXELS:
            log.warning("no scores of objects: %s voxels are too many", box.roi.shape)
            return None
        for number in box.numbers:
            _add_objects(counts, box, number, box.objects[box.index(number)])
    return counts


def _images(volume: ScoredVolume, numbers: list[int]) -> Iterator[ScoredBox]:
    """Yield boxes in which objects are whole: of sections, or of ranges of them."""
    if volume.objects_span_sections:
        return _runs(volume, numbers)
    return volume.whole_sections(numbers)


def _count_rule(counts: RuleCounts, box: ScoredBox, offset: int) -> None:
    """Count what one rule finds in the sections of a box."""
    rule = counts.rule
    masks = np.stack([rule.mask(box.grey[box.index(z)]) for z in box.numbers])
    if counts.objects is not None:
        if counts.objects.by_section:
            found = rule.objects(masks, "2d").astype(np.int64)
        else:
            found = rule.objects(masks, "3d").astype(np.int64)
            found[found > 0] += offset
        for ids, number in zip(found, box.numbers, strict=True):
            _add_objects(counts.objects, box, number, ids)
    for mask, number in zip(masks, box.numbers, strict=True):
        z = box.index(number)
        if not box.unknown[z].all():
            counts.confusions[number] = confusion_matrix(
                box.drawn[z], mask, 2, unlabelled=box.unknown[z]
            )


def _runs(volume: ScoredVolume, numbers: list[int]) -> Iterator[ScoredBox]:
    """Yield each range of consecutive sections as one box."""
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    for run in np.split(np.array(numbers), breaks):
        yield volume.range_of_sections(int(run[0]), int(run[-1]) + 1)


def measure_seams(volume: ScoredVolume) -> Seams:
    """Compare jumps of probability across tile, block, part faces with those inside."""
    grids = volume.records.prediction.geometry
    pooling_grid = volume.records.model.spec.pooling_grid
    num_parts = max(1, len(volume.records.prediction.parts))
    jumps = SeamJumps(grids, pooling_grid, num_parts)
    shards = choose_shards(grids)
    for index in shards:
        shard = grid_cell(index, grids.shard, grids.volume_shape)
        jumps.add(shard, read_roi(volume.probability, jumps.read_roi(shard)))
    return jumps.report(num_shards=len(shards))
