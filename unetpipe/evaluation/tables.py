"""What is counted of a volume, and the tables that the counts give.

::

    count(volume, roles) -> Counts -> voxel_tables      object_tables   calibrations
                                      describe_curves   describe_sections
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetpipe.config import EvaluationConfig
from unetpipe.evaluation.baselines import grey_mask
from unetpipe.evaluation.folds import describe_terms
from unetpipe.evaluation.objects import ObjectCounts
from unetpipe.evaluation.passes import (
    GreyBaseline,
    Roles,
    count_voxels,
    count_watershed,
    score_sections,
)
from unetpipe.evaluation.pixels import PixelCounts, class_rows
from unetpipe.evaluation.score_rows import Row
from unetpipe.evaluation.scored_volume import ScoredVolume
from unetpipe.evaluation.thresholds import describe_curve, threshold_rows
from unetpipe.metrics.cell_tracking import check_field, field_border_vox
from unetpipe.metrics.curves import ThresholdCurve

Table = dict[str, Any]
Curves = dict[str, dict[str, ThresholdCurve]]  # predictor -> metric -> curve

OURS, OTSU, CONSTANT, WATERSHED = "unet", "Otsu", "constant", "Otsu + watershed"


@dataclass(frozen=True, slots=True)
class Counts:
    """All that was counted of a volume, each section read once a pass.

    Attributes
    ----------
    roles : dict
        Role -> sections.
    pixels : dict
        Role -> counts of voxels.
    objects : dict
        Role -> predictor -> counts of objects; empty where labels have no instances.
    curves : dict
        Role -> scores over thresholds of the sections that are annotated everywhere.
    left_out : list of int
        Sections that are not.
    baseline : GreyBaseline or None
        How grey values alone tell cells from background.
    has_constant : bool
        Whether a constant map is scored too.
    threshold : float or None
        At which the foreground probability became a mask; None with more classes.
    model_thresholds : dict
        Metric -> threshold that the network's validation rows chose.
    border_vox : int
        How far the field of interest stays from the edge.
    """

    roles: Roles
    pixels: dict[str, PixelCounts]
    objects: dict[str, dict[str, ObjectCounts]]
    curves: dict[str, Curves]
    left_out: list[int]
    baseline: GreyBaseline | None
    has_constant: bool
    threshold: float | None
    model_thresholds: dict[str, float]
    border_vox: int

    def chosen(self, predictor: str) -> dict[str, float]:
        """Return the thresholds of a predictor that scored best on validation rows.

        The model remembers those of most metrics; the others, and those of baselines,
        come from the validation rows of this volume, if there are any.
        """
        curves = self.curves.get("validate", {}).get(predictor, {})
        best = {metric: curve.best().threshold for metric, curve in curves.items()}
        known = self.model_thresholds if predictor == OURS else {}
        defined = {metric: t for metric, t in best.items() if not math.isnan(t)}
        return {**defined, **known}


def count(volume: ScoredVolume, roles: Roles, evaluation: EvaluationConfig) -> Counts:
    """Make all passes over a volume.

    Parameters
    ----------
    volume : ScoredVolume
    roles : dict
        Role -> sections that are scored.
    evaluation : EvaluationConfig
        Which scores and baselines.

    Raises
    ------
    GeometryError
        If the field of interest leaves nothing of a section.
    """
    is_binary = volume.num_classes == 2
    border_vox = _border_vox(evaluation, volume)
    counted = {
        role: count_voxels(
            volume, numbers, baselines=evaluation.baselines, border_vox=border_vox
        )
        for role, numbers in roles.items()
    }
    pixels = {role: of_voxels for role, (of_voxels, _) in counted.items()}
    objects = {role: of_objects for role, (_, of_objects) in counted.items()}
    baseline = None
    if evaluation.baselines and is_binary and roles:
        baseline = GreyBaseline.of(pixels)
    curves: dict[str, Curves] = {role: {} for role in roles}
    left_out: set[int] = set()
    if is_binary and evaluation.isbi_scores:
        for role, numbers in roles.items():
            scores, unscored = score_sections(
                volume, numbers, baseline, with_warping=evaluation.warping_error
            )
            curves[role] = {name: of_name.curves() for name, of_name in scores.items()}
            left_out |= set(unscored)
    for role, by_name in objects.items():
        if baseline is not None and by_name:
            cut = count_watershed(volume, roles[role], baseline, border_vox)
            by_name |= {WATERSHED: cut} if cut else {}
    return Counts(
        roles=roles,
        pixels=pixels,
        objects=objects,
        curves=curves,
        left_out=sorted(left_out),
        baseline=baseline,
        has_constant=evaluation.baselines,
        threshold=volume.segmented["threshold"] if is_binary else None,
        model_thresholds=volume.model.get("thresholds", {}),
        border_vox=border_vox,
    )


def voxel_tables(counts: Counts) -> Iterator[Table]:
    """Yield a table of voxels for each role: scores over thresholds, then overlap."""
    for role, pixels in counts.pixels.items():
        rows = [
            _align(row, pixels.numbers, counts.left_out)
            for name, by_metric in counts.curves[role].items()
            for row in threshold_rows(name, by_metric, counts.chosen(name))
        ]
        if pixels.numbers:
            confusion = pixels.confusion(counts.threshold)
            rows += class_rows(OURS, confusion, counts.threshold)
            rows += _overlap_of_baselines(counts, pixels)
        yield {"role": role, "sections": pixels.numbers, "rows": rows}


def object_tables(counts: Counts) -> Iterator[Table]:
    """Yield a table of objects for each role, where labels are instances."""
    for role, by_name in counts.objects.items():
        if by_name:
            yield {
                "role": role,
                "sections": by_name[OURS].numbers,
                "rows": [
                    row
                    for name, of_name in by_name.items()
                    for row in of_name.rows(
                        name, counts.threshold if name == OURS else None
                    )
                ],
                "sizes": {name: of_name.sizes() for name, of_name in by_name.items()},
                "field_border_vox": counts.border_vox,
            }


def calibrations(counts: Counts) -> Iterator[dict[str, Any]]:
    """Yield predicted against true frequencies, by role and class."""
    for role, pixels in counts.pixels.items():
        yield from pixels.describe_calibration(role)


def describe_curves(counts: Counts) -> Iterator[dict[str, Any]]:
    """Yield scores over thresholds, by role, predictor and metric."""
    for role, pixels in counts.pixels.items():
        for name, by_metric in counts.curves[role].items():
            for curve in by_metric.values():
                yield describe_curve(role, name, curve)
        yield from pixels.describe_curves(role)


def describe_sections(counts: Counts) -> Iterator[dict[str, Any]]:
    """Yield what each section contributes, by role, predictor and metric."""
    for role, numbers in counts.roles.items():
        scored = [z for z in numbers if z not in counts.left_out]
        for name, by_metric in counts.curves[role].items():
            chosen = counts.chosen(name)
            for metric, curve in by_metric.items():
                yield describe_terms(
                    role, name, curve, sections=scored, chosen=chosen.get(metric)
                )


def rank_sections(tables: list[Table]) -> list[int]:
    """Return the sections of the last role (test, if any), best first."""
    table = tables[-1] if tables else {"rows": [], "sections": []}
    ours = [row for row in table["rows"] if row["predictor"] == OURS]
    for metric in ("v_rand", "dice_class_1"):
        for row in ours:
            if row["metric"] == metric and row["per_section"]:
                scores = zip(row["per_section"], table["sections"], strict=True)
                scored = [(s, number) for s, number in scores if s is not None]
                if scored:
                    return [number for _, number in sorted(scored, reverse=True)]
    return list(table["sections"])


def _border_vox(evaluation: EvaluationConfig, volume: ScoredVolume) -> int:
    """Return how far the field of interest stays from the edge, after a check."""
    border = evaluation.field_of_interest_vox
    if isinstance(border, str):
        border = field_border_vox(border)
    check_field(volume.shape[1:], border)
    return border


def _align(row: Row, numbers: list[int], left_out: list[int]) -> Row:
    """Put None for the sections of a table that have no score over thresholds."""
    scores = row["per_section"]
    if scores is None:
        return row
    scored = (z for z in numbers if z not in left_out)
    by_number = dict(zip(scored, scores, strict=True))
    return row | {"per_section": [by_number.get(z) for z in numbers]}


def _overlap_of_baselines(counts: Counts, pixels: PixelCounts) -> Iterator[Row]:
    baseline = counts.baseline
    if baseline is not None:
        levels = np.arange(pixels.num_grey_levels)
        mask = grey_mask(levels, baseline.level, bright=baseline.bright)
        yield from class_rows(OTSU, pixels.confusion_of_grey(mask), None)
    if counts.has_constant:
        yield from class_rows(CONSTANT, pixels.confusion_of_constant(), None)
