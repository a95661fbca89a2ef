"""What training sections are like, and whether another volume is like them.

Everything is told by records: of ingested volumes, of weight maps, of segmentations.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetpipe.metrics.outliers import robust_deviation
from unetpipe.records.sections import FoundSections, LearntSections, Span
from unetpipe.records.volume import IngestedVolume
from unetpipe.records.weight_map import WeightMap
from unetpipe.tiling.intensity import mean_and_std

Values = NDArray[np.float64]
Columns = dict[str, Values]

MILLION = 1e6
DEVIATIONS = 3.0  # beyond what was seen in training, before it is told
TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Feature:
    """What is compared.

    Attributes
    ----------
    words : str
        For the sentence.
    least : float
        Beyond what was learnt, before it is told.
    is_ratio : bool
        ``least`` is a factor.
    """

    words: str
    least: float
    is_ratio: bool = True

    def scaled(self, value: float) -> float:
        """Return a value on the scale of ``least``."""
        return log2(max(value, TINY)) if self.is_ratio else value

    @property
    def limit(self) -> float:
        """The least difference on that scale."""
        return log2(self.least) if self.is_ratio else self.least


OF_IMAGES = {
    "low": Feature("5th percentile of normalised grey values", 0.75, is_ratio=False),
    "high": Feature("95th percentile of normalised grey values", 0.75, is_ratio=False),
    "sharpness": Feature("sharpness", 2.0),
}
OF_RESULTS = {
    "foreground_share": Feature("share of foreground", 2.0),
    "objects_per_million_vox": Feature("objects in a million voxels", 4.0),
    "object_vox": Feature("voxels of an object in a section", 3.0),
}


def describe_learnt(
    rows: Iterable[tuple[IngestedVolume, WeightMap, Sequence[int]]],
) -> LearntSections | None:
    """Return what the sections are like that a network learns from.

    Parameters
    ----------
    rows : iterable of (volume, weight map, sections)

    Returns
    -------
    LearntSections or None
        None where a volume's record is of a version that did not measure sections.
    """
    columns: dict[str, list[Values]] = {}
    num_sections = 0
    for volume, weights, numbers in rows:
        if volume.sections is None:
            return None
        num_sections += len(numbers)
        chosen = list(numbers)
        of_row = {name: c[chosen] for name, c in grey_columns(volume).items()}
        known = np.array(weights.class_counts, np.float64)[chosen]
        cells = np.array(weights.num_cells, np.float64)[chosen]
        foreground, total = known[:, 1:].sum(axis=1), known.sum(axis=1)
        of_row |= _object_columns(foreground, cells, total)
        if foreground.any() and not cells.any():  # classes, whose objects nobody told
            del of_row["objects_per_million_vox"]
        for name, column in of_row.items():
            columns.setdefault(name, []).append(column)
    spans: dict[str, Any] = {
        name: span_of(np.concatenate(column)) for name, column in columns.items()
    }
    return LearntSections(num_sections=num_sections, **spans)


def join_learnt(learnt: Sequence[LearntSections | None]) -> LearntSections | None:
    """Return what the members of an ensemble have learnt from, all together."""
    known = [one for one in learnt if one is not None]
    if not known or len(known) < len(learnt):
        return None
    spans: dict[str, Any] = {}
    for name in (*OF_IMAGES, *OF_RESULTS):
        of_members: list[Span] = [s for one in known if (s := getattr(one, name))]
        if of_members:
            spans[name] = Span(
                lowest=min(span.lowest for span in of_members),
                median=float(np.median([span.median for span in of_members])),
                highest=max(span.highest for span in of_members),
                deviation=max(span.deviation for span in of_members),
            )
    return LearntSections(num_sections=max(one.num_sections for one in known), **spans)


def grey_columns(volume: IngestedVolume) -> Columns:
    """Return what the network sees of each section: means over the channels."""
    assert volume.sections is not None
    mean, std = mean_and_std(volume.intensities)
    found: dict[str, list[Values]] = {name: [] for name in OF_IMAGES}
    for k, channel in enumerate(volume.sections.channels):
        found["low"].append((np.array(channel.low) - mean[k]) / std[k])
        found["high"].append((np.array(channel.high) - mean[k]) / std[k])
        found["sharpness"].append(np.array(channel.sharpness))
    return {name: np.mean(columns, axis=0) for name, columns in found.items()}


def unlike_learnt(
    learnt: LearntSections | None, volume: IngestedVolume
) -> tuple[str, ...]:
    """Return how an image differs from those that a network has learnt from.

    Empty where nobody knows either, and where they are alike.
    """
    if learnt is None or volume.sections is None:
        return ()
    columns = grey_columns(volume)
    # Blank sections are told as such.
    columns["sharpness"] = columns["sharpness"][columns["sharpness"] > 0]
    found = {name: float(np.median(c)) for name, c in columns.items() if c.size}
    told = list(_outside(learnt, found, OF_IMAGES))
    if not told:
        return ()
    return (
        "the image is unlike those that the network has learnt from: "
        + "; ".join(told)
        + "; look at the result before you believe it, or annotate some sections of "
        "it and train with them",
    )


def novelty_of_sections(
    learnt: LearntSections | None, volume: IngestedVolume
) -> Values:
    """Return how far each section lies beyond what was learnt: 0 within it, to 1.

    1 is as far as would be told of a whole volume, or farther; 0 where nobody knows.
    """
    beyond = np.zeros(volume.shape[0])
    if learnt is None or volume.sections is None:
        return beyond
    for name, column in grey_columns(volume).items():
        span: Span | None = getattr(learnt, name)
        if span is not None:
            low, high, margin = _limits(span, OF_IMAGES[name])
            values = np.array([OF_IMAGES[name].scaled(v) for v in column])
            outside = np.maximum(low - values, values - high)
            beyond = np.maximum(beyond, outside / margin)
    return np.clip(beyond, 0, 1)


def looks_of_sections(volume: IngestedVolume) -> Values:
    """Return what the network sees of each section: (z, features), as told of limits.

    Zeros of a volume whose record is of a version that did not measure sections.
    """
    if volume.sections is None:
        return np.zeros((volume.shape[0], len(OF_IMAGES)))
    columns = grey_columns(volume)
    return np.array(
        [[f.scaled(v) for v in columns[name]] for name, f in OF_IMAGES.items()]
    ).T


def unlike_result(
    learnt: LearntSections | None, found: FoundSections, area: int
) -> tuple[str, ...]:
    """Return how what was found differs from what was annotated for the training.

    Parameters
    ----------
    learnt : LearntSections or None
    found : FoundSections
    area : int
        Voxels of a section.
    """
    if learnt is None or not found.num_objects:
        return ()
    objects = np.array(found.num_objects, np.float64)
    columns = {"objects_per_million_vox": objects * MILLION / area}
    if found.foreground_vox is not None:
        foreground = np.array(found.foreground_vox, np.float64)
        columns = _object_columns(foreground, objects, np.full(len(objects), area))
    medians = {name: float(np.median(c)) for name, c in columns.items() if c.size}
    told = list(_outside(learnt, medians, OF_RESULTS))
    if not told:
        return ()
    return (
        "the result is unlike what was annotated for the training: "
        + "; ".join(told)
        + "; look at it before you believe it",
    )


def find_by_section(
    start_z: ArrayLike, stop_z: ArrayLike, voxels: ArrayLike, num_sections: int
) -> FoundSections:
    """Return what objects there are in each section, from their table.

    Parameters
    ----------
    start_z, stop_z : integer arrays, shape (objects,)
        Half-open; an object is in every section between.
    voxels : integer array, shape (objects,)
    num_sections : int
    """
    starts, stops = np.asarray(start_z, np.int64), np.asarray(stop_z, np.int64)
    begin = np.bincount(starts, minlength=num_sections + 1)
    end = np.bincount(stops, minlength=num_sections + 1)
    inside = np.cumsum(begin - end)[:num_sections]
    if (stops - starts > 1).any():
        return FoundSections(num_objects=tuple(inside.tolist()))
    # Of integers far below 2^53, which weights of floating point hold exactly.
    sums = np.bincount(starts, weights=np.asarray(voxels), minlength=num_sections)
    return FoundSections(
        num_objects=tuple(inside.tolist()),
        foreground_vox=tuple(int(n) for n in sums[:num_sections]),
    )


def span_of(values: Values) -> Span | None:
    """Return the span of some values; None of none."""
    if not values.size:
        return None
    return Span(
        lowest=_round(values.min()),
        median=_round(np.median(values)),
        highest=_round(values.max()),
        deviation=_round(robust_deviation(values)),
    )


def _object_columns(foreground: Values, objects: Values, total: Values) -> Columns:
    """Return the columns of ``OF_RESULTS``, of sections with a known voxel."""
    is_known, has_objects = total > 0, objects > 0
    return {
        "foreground_share": foreground[is_known] / total[is_known],
        "objects_per_million_vox": objects[is_known] * MILLION / total[is_known],
        "object_vox": foreground[has_objects] / objects[has_objects],
    }


def _outside(
    learnt: LearntSections, found: dict[str, float], features: dict[str, Feature]
) -> Iterator[str]:
    for name, value in found.items():
        span: Span | None = getattr(learnt, name)
        if span is None:
            continue
        feature = features[name]
        low, high, margin = _limits(span, feature)
        if not low - margin <= feature.scaled(value) <= high + margin:
            yield (
                f"{feature.words} {value:.3g}, there {span.lowest:.3g} to "
                f"{span.highest:.3g}"
            )


def _limits(span: Span, feature: Feature) -> tuple[float, float, float]:
    """Return what was learnt, and how far beyond it is told: on the feature's scale."""
    centre = feature.scaled(span.median)
    spread = feature.scaled(span.median + span.deviation) - centre
    margin = max(feature.limit, DEVIATIONS * spread)
    return feature.scaled(span.lowest), feature.scaled(span.highest), margin


def _round(value: Any) -> float:
    return float(f"{float(value):.6g}")
