"""The passes over a volume from which all its scores come.

==================  ==========================  ===================================
pass                reads                       memory
==================  ==========================  ===================================
count_voxels        boxes of bounded size       a box, and tables of counts
score_sections      whole sections, one by one  a section, or a few small ones
count_watershed     the same; a range of        a section, or the range
                    sections in 3-D
measure_seams       shards, at most 128         a shard
==================  ==========================  ===================================
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.evaluation.baselines import grey_mask, watershed_objects
from unetpipe.evaluation.objects import ObjectCounts
from unetpipe.evaluation.pixels import PixelCounts
from unetpipe.evaluation.scored_volume import BOX_VOX, ScoredBox, ScoredVolume
from unetpipe.evaluation.seams import SeamJumps, choose_shards
from unetpipe.evaluation.thresholds import ThresholdScores
from unetpipe.metrics.value_counts import otsu_level
from unetpipe.records.metrics import Role, Seams
from unetpipe.storage.volumes import read_roi
from unetpipe.tiling.boxes import grid_cell

log = logging.getLogger(__name__)

Roles = dict[Role, list[int]]
BASE_BYTES = 320 * 2**20  # interpreter, libraries and compiled loops
MOST_WATERSHED_VOXELS = 2**24  # of a section, or of a range of sections in 3-D
SHADES = 4.0  # standard deviations of grey value that a map from 0 to 1 spans


@dataclass(frozen=True, slots=True)
class GreyBaseline:
    """How grey values alone tell cells from background.

    Attributes
    ----------
    level : int
        Otsu's, of the annotated voxels of all scored sections.
    bright : bool
        Whether cells are brighter than the rest, judged on the validation sections.
    """

    level: int
    bright: bool

    @classmethod
    def of(cls, counts: dict[Role, PixelCounts]) -> GreyBaseline:
        """Choose both from the counts of each role."""
        total = np.sum([c.grey_histogram for c in counts.values()], axis=0)
        bright = True
        if "validate" in counts:
            outside, inside = counts["validate"].grey_histogram.astype(np.float64)
            levels = np.arange(inside.size)
            bright = bool(
                (levels @ inside) * outside.sum() >= (levels @ outside) * inside.sum()
            )
        return cls(otsu_level(total.sum(axis=0)), bright)


def project_memory(volume: ScoredVolume, *, isbi_scores: bool, baselines: bool) -> int:
    """Return the peak resident memory of all passes, in bytes, as far as it is known.

    The working copies of a section were measured: 2048 x 2048, warping included.
    """
    section, depth = prod(volume.shape[1:]), volume.sections_together
    ids = volume.labels.dtype.itemsize
    together = volume.image.dtype.itemsize + 1 + 3 * ids + volume.objects.dtype.itemsize
    working = max(80 * isbi_scores, 150 * (baselines and volume.has_instances))
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
        Count grey values and a constant map as well.

    Returns
    -------
    pixels : PixelCounts
    objects : dict
        Predictor -> counts; empty without instance labels.
    """
    is_binary = volume.num_classes == 2
    grey_scale = volume.grey_scale
    counts_grey = baselines and is_binary
    pixels = PixelCounts(
        volume.num_classes, num_grey_levels=grey_scale.num_levels if counts_grey else 0
    )
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
            if counts_grey:
                pixels.add_grey(number, grey_scale.levels(box.grey[z]), truth, unknown)
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
    counts.add(number, box.instances[z], found, box.unknown[z], box.field)
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
    baseline: GreyBaseline | None,
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
            for name, probability in _maps(volume, box, number, baseline):
                of_name = scores.setdefault(
                    name,
                    ThresholdScores(with_warping=with_warping, delivered=delivered),
                )
                cells, drawn = (a[z][inside] > 0 for a in (box.truth, box.drawn))
                of_name.add(number, probability[inside], cells, drawn)
    return scores, left_out


def _maps(
    volume: ScoredVolume, box: ScoredBox, number: int, baseline: GreyBaseline | None
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield predictor and probability of one section."""
    yield "unet", box.probability(number)
    if baseline is None:
        return
    statistics = volume.statistics
    grey = box.grey[box.index(number)].astype(np.float32)
    shade = (grey - statistics.mean) / (SHADES * statistics.std)
    shade = 0.5 + (shade if baseline.bright else -shade)
    yield "grey value", np.clip(shade, 0, 1).astype(np.float32)
    yield "constant", np.full(grey.shape, 0.5, np.float32)


def count_watershed(
    volume: ScoredVolume, numbers: list[int], baseline: GreyBaseline
) -> ObjectCounts | None:
    """Count the objects that Otsu's threshold and a watershed find against the truth.

    Returns None where objects span sections and the range of sections is too large to
    be cut as a whole.
    """
    by_section = not volume.objects_span_sections
    counts = ObjectCounts(by_section=by_section)
    runs = volume.whole_sections(numbers) if by_section else _runs(volume, numbers)
    offset = 0
    for box in runs:
        image = box.roi.shape[1:] if by_section else box.roi.shape
        if prod(image) > MOST_WATERSHED_VOXELS:
            log.warning("no watershed baseline: %s voxels are too many", image)
            return None
        whole = None if by_section else _cut(volume, box.grey, baseline)
        for number in box.numbers:
            z = box.index(number)
            found = _cut(volume, box.grey[z], baseline) if whole is None else whole[z]
            ids = np.where(found > 0, found + offset, 0)
            _add_objects(counts, box, number, ids)
        offset += 0 if whole is None else int(whole.max())
    return counts


def _cut(
    volume: ScoredVolume, grey: NDArray[Any], baseline: GreyBaseline
) -> NDArray[np.int64]:
    levels = volume.grey_scale.levels(grey)
    mask = grey_mask(levels, baseline.level, bright=baseline.bright)
    return watershed_objects(mask).astype(np.int64)


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
