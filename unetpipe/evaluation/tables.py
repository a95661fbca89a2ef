"""What is counted of a volume, and the tables that the counts give.

::

    count_scores(volume, roles) -> Counts -> voxel_score_tables    object_score_tables
                                             calibrations          describe_curves
                                             describe_section_scores
                                             describe_overlap    describe_objects
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetpipe.config import EvaluationConfig
from unetpipe.evaluation.baselines import GreyRule
from unetpipe.evaluation.folds import terms_of_scored_sections
from unetpipe.evaluation.objects import ObjectCounts
from unetpipe.evaluation.passes import (
    Roles,
    RuleCounts,
    count_baselines,
    count_scored_components,
    count_scored_voxels,
    score_sections,
)
from unetpipe.evaluation.pixels import PixelCounts, class_score_rows
from unetpipe.evaluation.scored_volume import ScoredVolume
from unetpipe.evaluation.thresholds import (
    describe_curve,
    mask_score_rows,
    threshold_rows,
)
from unetpipe.metrics.curves import ThresholdCurve
from unetpipe.records.metrics import (
    OURS,
    Calibration,
    Curve,
    ObjectTable,
    ObjectTerms,
    OverlapTerms,
    Role,
    Row,
    SectionTerms,
    Table,
)

Curves = dict[str, dict[str, ThresholdCurve]]  # predictor -> metric -> curve

# What ranks sections: what chose the network, then the first of these.
RANKING = ("v_rand", "dice_mean", "dice_class_1")
CHOSE = {"f1": ("f1",), "seg": ("ctc_seg", "f1"), "dice": RANKING[1:]}
CONSTANT = "constant"


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
    rules : dict
        Role -> what rules of grey values alone find.
    has_constant : bool
        Whether a constant map is scored too.
    threshold : float or None
        At which the foreground probability became a mask; None with more classes.
    border_vox : int
        How far the field of interest stays from the edge.
    has_ids : bool
        Whether the labels tell objects apart; else true objects are components.
    """

    roles: Roles
    pixels: dict[Role, PixelCounts]
    objects: dict[Role, dict[str, ObjectCounts]]
    curves: dict[Role, Curves]
    left_out: list[int]
    rules: dict[Role, list[RuleCounts]]
    has_constant: bool
    threshold: float | None
    border_vox: int
    has_ids: bool

    def chosen(self, predictor: str) -> dict[str, float]:
        """Return the threshold at which a predictor is scored, by metric.

        The network's is that of the masks that were delivered, the same for all scores.
        A baseline delivers none: each score takes what is best on the validation rows
        of this volume, if there are any.
        """
        if predictor == OURS and self.threshold is not None:
            metrics = {
                m for of_role in self.curves.values() for m in of_role.get(OURS, {})
            }
            return dict.fromkeys(metrics, self.threshold)
        curves = self.curves.get("validate", {}).get(predictor, {})
        best = {metric: curve.best().threshold for metric, curve in curves.items()}
        return {metric: t for metric, t in best.items() if not math.isnan(t)}


def count_scores(
    volume: ScoredVolume,
    roles: Roles,
    evaluation: EvaluationConfig,
    rules: Sequence[GreyRule] = (),
    folder: Path | None = None,
) -> Counts:
    """Make all passes over a volume.

    Parameters
    ----------
    volume : ScoredVolume
    roles : dict
        Role -> sections that are scored.
    evaluation : EvaluationConfig
        Which scores and baselines.
    rules : sequence of GreyRule
        What grey values alone are scored by.
    folder : Path, optional
        Where large sections may wait.
    """
    is_binary = volume.num_classes == 2
    counted = {
        role: count_scored_voxels(volume, numbers, baselines=evaluation.baselines)
        for role, numbers in roles.items()
    }
    pixels = {role: of_voxels for role, (of_voxels, _) in counted.items()}
    objects = {role: of_objects for role, (_, of_objects) in counted.items()}
    bright = rules[0].is_bright if rules else None
    curves: dict[Role, Curves] = {role: {} for role in roles}
    left_out: set[int] = set()
    if is_binary and evaluation.isbi_scores:
        for role, numbers in roles.items():
            scores, unscored = score_sections(
                volume,
                numbers,
                bright,
                warping=evaluation.warping_thresholds
                if evaluation.warping_error
                else None,
                folder=folder,
            )
            curves[role] = {name: of_name.curves() for name, of_name in scores.items()}
            left_out |= set(unscored)
    by_rule = {
        role: count_baselines(
            volume, numbers, rules, isbi_scores=is_binary and evaluation.isbi_scores
        )
        if rules
        else []
        for role, numbers in roles.items()
    }
    for role, by_name in objects.items():
        if volume.has_ids and not volume.has_instances:
            found = count_scored_components(volume, roles[role], folder)
            by_name |= {OURS: found} if found else {}
        if by_name:
            by_name |= {
                one.rule.name: one.objects for one in by_rule[role] if one.objects
            }
    return Counts(
        roles=roles,
        pixels=pixels,
        objects=objects,
        curves=curves,
        left_out=sorted(left_out),
        rules=by_rule,
        has_constant=evaluation.baselines,
        threshold=volume.records.segmentation.threshold if is_binary else None,
        border_vox=volume.border_vox,
        has_ids=volume.has_instances,
    )


def voxel_score_tables(counts: Counts) -> Iterator[Table]:
    """Yield a table of voxels for each role: scores over thresholds, then overlap."""
    for role, pixels in counts.pixels.items():
        rows = [
            _align(row, pixels.numbers, counts.left_out)
            for name, by_metric in counts.curves[role].items()
            for row in threshold_rows(name, by_metric, counts.chosen(name))
        ]
        rows += [
            _align(row, pixels.numbers, counts.left_out)
            for one in counts.rules[role]
            if one.isbi
            for row in mask_score_rows(one.rule.name, one.isbi.values())
        ]
        for name, confusion, threshold in _confusions(counts, role):
            rows += class_score_rows(name, confusion, threshold)
        yield Table(role=role, sections=tuple(pixels.numbers), rows=tuple(rows))


def object_score_tables(counts: Counts) -> Iterator[ObjectTable]:
    """Yield a table of objects for each role, where labels are instances."""
    for role, by_name in counts.objects.items():
        if by_name:
            rows = [
                row
                for name, of_name in by_name.items()
                for row in of_name.rows(
                    name, counts.threshold if name == OURS else None
                )
            ]
            yield ObjectTable(
                role=role,
                sections=tuple(by_name[OURS].numbers),
                rows=tuple(rows),
                sizes={name: of_name.sizes() for name, of_name in by_name.items()},
                field_border_vox=counts.border_vox,
                truth_is="ids" if counts.has_ids else "components",
            )


def calibrations(
    counts: Counts, temperature: float | None = None
) -> Iterator[Calibration]:
    """Yield predicted against true frequencies, by role and class.

    With a temperature, those at it follow.
    """
    for role, pixels in counts.pixels.items():
        yield from pixels.describe_calibration(role, temperature)


def describe_curves(counts: Counts) -> Iterator[Curve]:
    """Yield scores over thresholds, by role, predictor and metric."""
    for role, pixels in counts.pixels.items():
        for name, by_metric in counts.curves[role].items():
            for curve in by_metric.values():
                yield describe_curve(role, name, curve)
        yield from pixels.describe_curves(role)


def describe_section_scores(counts: Counts) -> Iterator[SectionTerms]:
    """Yield what each section contributes, by role, predictor and metric."""
    for role, numbers in counts.roles.items():
        scored = [z for z in numbers if z not in counts.left_out]
        for name, by_metric in counts.curves[role].items():
            chosen = counts.chosen(name)
            for metric, curve in by_metric.items():
                at = chosen.get(metric)
                is_known = at is not None and curve.has(at)
                yield terms_of_scored_sections(
                    role, name, curve, sections=scored, chosen=at if is_known else None
                )


def describe_overlap(counts: Counts) -> Iterator[OverlapTerms]:
    """Yield truth against masks in each section, by role and predictor."""
    for role, pixels in counts.pixels.items():
        for name, confusion, _ in _confusions(counts, role):
            yield OverlapTerms(
                role=role,
                predictor=name,
                sections=tuple(pixels.numbers),
                confusion=confusion.tolist(),
            )


def describe_objects(counts: Counts) -> Iterator[ObjectTerms]:
    """Yield what images contribute to scores of objects, by role and predictor."""
    for role, by_name in counts.objects.items():
        for name, of_name in by_name.items():
            yield of_name.describe(role, name)


def leading_metrics(chose: str | None) -> tuple[str, ...]:
    """Return what ranks sections where a metric chose the network, first to last.

    Examples
    --------
    >>> leading_metrics("f1"), leading_metrics("dice")[:1]
    (('f1', 'v_rand', 'dice_mean', 'dice_class_1'), ('dice_mean',))
    """
    return tuple(dict.fromkeys((*CHOSE.get(chose or "", ()), *RANKING)))


def rank_sections(
    tables: Sequence[Table], objects: Sequence[Table], leading: Sequence[str]
) -> list[int]:
    """Return the sections of the last role (test, if any), best first."""
    if not tables:
        return []
    role = tables[-1].role
    for metric in leading:
        for table in (one for one in (*tables, *objects) if one.role == role):
            row = table.ours.get(metric)
            if row and (scores := table.section_scores(row)):
                return sorted(scores, key=lambda z: (scores[z], z), reverse=True)
    return list(tables[-1].sections)


def _align(row: Row, numbers: list[int], left_out: list[int]) -> Row:
    """Put None for the sections of a table that have no score over thresholds."""
    if row.per_section is None:
        return row
    scored = (z for z in numbers if z not in left_out)
    by_number = dict(zip(scored, row.per_section, strict=True))
    aligned = tuple(by_number.get(z) for z in numbers)
    return row.model_copy(update={"per_section": aligned})


def _confusions(
    counts: Counts, role: Role
) -> Iterator[tuple[str, NDArray[np.int64], float | None]]:
    """Yield who is scored by overlap, counts of sections, and the threshold if any."""
    pixels = counts.pixels[role]
    if not pixels.numbers:
        return
    yield OURS, pixels.confusion(counts.threshold), counts.threshold
    for one in counts.rules[role]:
        if not one.rule.is_cut:
            confusion = np.stack([one.confusions[z] for z in pixels.numbers])
            yield one.rule.name, confusion, None
    if counts.has_constant:
        yield CONSTANT, pixels.confusion_of_constant(), None
