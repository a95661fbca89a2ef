"""Rule evaluate_prediction: score a prediction on the annotated sections."""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unetpipe.config import EvaluationConfig
from unetpipe.evaluation.baselines import grey_mask
from unetpipe.evaluation.folds import describe_terms
from unetpipe.evaluation.passes import (
    GreyBaseline,
    Roles,
    count_pieces,
    count_watershed,
    measure_seams,
    project_memory,
    score_sections,
)
from unetpipe.evaluation.pixels import PixelCounts, class_rows
from unetpipe.evaluation.score_rows import Row, definitions_of
from unetpipe.evaluation.scored_volume import ScoredVolume
from unetpipe.evaluation.thresholds import describe_curve, threshold_rows
from unetpipe.metrics import ThresholdCurve, check_field, field_border_vox
from unetpipe.report.catalogue import SCORES
from unetpipe.report.seam_figure import plot_seams
from unetpipe.runtime.files import (
    circumstances,
    read_record,
    write_bytes_atomic,
    write_record,
)
from unetpipe.runtime.machine import peak_rss_bytes
from unetpipe.storage.keeping import write_with_copy

log = logging.getLogger(__name__)

Table = dict[str, Any]
Curves = dict[str, dict[str, ThresholdCurve]]

SCHEMA_VERSION = 1  # of metrics.json; raised when a field changes its meaning
SHOWN_SECTIONS = 3
WATERSHED = "Otsu + watershed"


def evaluate_prediction(
    *,
    prediction: Path,
    segmentation: Path,
    ingest: Path,
    model_json: Path,
    rows: list[dict[str, Any]],
    evaluation: EvaluationConfig,
    picture: Path,
    sections: Path,
    record: Path,
) -> None:
    """Score the network, and baselines beside it, by the published definitions.

    Thresholds come from the validation rows (``model.json``); the best threshold on
    the scored sections themselves is shown beside, as the publications do. Sections
    with unlabelled voxels have no score over thresholds: they count, where annotated,
    for the overlap of classes and for objects.

    Parameters
    ----------
    prediction, segmentation, ingest, model_json : Path
        Records.
    rows : list of dict
        ``{"role": "validate" | "test", "sections": list or None}`` of this volume.
    evaluation : EvaluationConfig
        Which scores and baselines.
    picture : Path
        Where to write the seam report's picture, ``seams.png``.
    sections : Path
        Where to write what each section contributes to the scores over thresholds,
        ``section_scores.json``.
    record : Path
        Where to write ``metrics.json``.

    Raises
    ------
    GeometryError
        If the field of interest leaves nothing of a section.
    """
    began = time.monotonic()
    volume = ScoredVolume(
        *map(read_record, (prediction, segmentation, ingest, model_json))
    )
    projected = project_memory(
        volume, isbi_scores=evaluation.isbi_scores, baselines=evaluation.baselines
    )
    log.info("at most %d MB of memory", projected >> 20)
    job = _Job(volume, _roles(volume, rows), evaluation)
    tables, objects = list(job.tables()), list(job.object_tables())
    seams = measure_seams(volume)
    write_bytes_atomic(picture, plot_seams(seams))
    ranked = _rank(tables)
    write_record(
        sections,
        {
            "volume": volume.volume["volume"],
            "definitions": definitions_of(
                row["metric"] for table in tables for row in table["rows"]
            ),
            "rows": list(job.described_terms()),
            "circumstances": circumstances(),
        },
    )
    write_with_copy(
        record,
        {
            "volume": volume.volume["volume"],
            "schema_version": SCHEMA_VERSION,
            "definitions": definitions_of(
                row["metric"] for table in tables + objects for row in table["rows"]
            ),
            "role_sections": job.roles,
            "left_out": sorted(job.left_out),
            "tables": tables,
            "objects": objects,
            "calibration": list(job.calibration()),
            "curves": list(job.described_curves()),
            "seams": {**seams, "picture": picture.name},
            "sections_best": ranked[:SHOWN_SECTIONS],
            "sections_worst": ranked[::-1][:SHOWN_SECTIONS],
            "seconds": time.monotonic() - began,
            "projected_peak_rss_bytes": projected,
            "peak_rss_bytes": peak_rss_bytes(),
            "circumstances": circumstances(),
        },
        Path(volume.segmented["store"]).parent,
    )
    for role in job.roles:
        log.info("%s sections: %s", role, _brief(role, tables + objects))
    log.info("all scores, and those of the baselines: %s", record)


def _brief(role: str, tables: list[Table]) -> str:
    """Return the network's scores that the catalogue has, and Dice, in a line."""
    scores = {
        row["metric"]: (row["chosen"] or row["best"])["score"]
        for table in tables
        if table["role"] == role
        for row in table["rows"]
        if row["predictor"] == "unet"
    }
    return ", ".join(
        f"{name} {score:.4g}"
        for name, score in scores.items()
        if (name in SCORES or name.startswith("dice_")) and score is not None
    )


def _roles(volume: ScoredVolume, rows: list[dict[str, Any]]) -> Roles:
    """Return the sections of each role that is scored."""
    roles = {
        role: sorted(
            {z for row in rows if row["role"] == role for z in volume.sections(row)}
        )
        for role in ("validate", "test")
    }
    return {role: numbers for role, numbers in roles.items() if numbers}


class _Job:
    """The passes over one volume, each made once, and the tables they give."""

    def __init__(
        self, volume: ScoredVolume, roles: Roles, evaluation: EvaluationConfig
    ) -> None:
        self.volume, self.roles, self.evaluation = volume, roles, evaluation
        self.border_vox = _border_vox(evaluation, volume)
        self.threshold: float | None = (
            volume.segmented["threshold"] if volume.num_classes == 2 else None
        )
        self.counts = {
            role: count_pieces(
                volume,
                numbers,
                baselines=evaluation.baselines,
                border_vox=self.border_vox,
            )
            for role, numbers in roles.items()
        }
        self.pixels = {role: counts[0] for role, counts in self.counts.items()}
        self.baseline = None
        if evaluation.baselines and volume.num_classes == 2 and roles:
            self.baseline = GreyBaseline.of(self.pixels)
        self.left_out: set[int] = set()
        self.curves = {role: self._score(numbers) for role, numbers in roles.items()}

    def _score(self, numbers: list[int]) -> Curves:
        """Return predictor -> metric -> curve of the ISBI scores of some sections."""
        if self.volume.num_classes > 2 or not self.evaluation.isbi_scores:
            return {}
        scores, left_out = score_sections(
            self.volume,
            numbers,
            self.baseline,
            with_warping=self.evaluation.warping_error,
        )
        self.left_out |= set(left_out)
        return {name: of_name.curves() for name, of_name in scores.items()}

    def tables(self) -> Iterator[Table]:
        """Yield a table of voxels for each role: ISBI scores, then overlap."""
        for role, pixels in self.pixels.items():
            rows: list[Row] = []
            for name, by_metric in self.curves[role].items():
                for row in threshold_rows(name, by_metric, self._chosen(name)):
                    rows.append(self._align(row, pixels.numbers))
            if pixels.numbers:
                rows += class_rows(
                    "unet", pixels.confusion(self.threshold), self.threshold
                )
                rows += self._overlap_of_baselines(pixels)
            yield {"role": role, "sections": pixels.numbers, "rows": rows}

    def _align(self, row: Row, numbers: list[int]) -> Row:
        """Put None for the sections of a table that have no score over thresholds."""
        scores = row["per_section"]
        if scores is None:
            return row
        scored = (z for z in numbers if z not in self.left_out)
        by_number = dict(zip(scored, scores, strict=True))
        return row | {"per_section": [by_number.get(z) for z in numbers]}

    def _chosen(self, name: str) -> dict[str, float]:
        """Return the thresholds of a predictor that scored best on validation rows.

        The model remembers those of most metrics; the others, and those of baselines,
        come from the validation rows of this volume, if there are any.
        """
        curves = self.curves.get("validate", {}).get(name, {})
        best = {metric: curve.best().threshold for metric, curve in curves.items()}
        known = self.volume.model.get("thresholds", {}) if name == "unet" else {}
        defined = {metric: t for metric, t in best.items() if not math.isnan(t)}
        return {**defined, **known}

    def _overlap_of_baselines(self, pixels: PixelCounts) -> Iterator[Row]:
        if self.baseline is not None:
            levels = np.arange(pixels.num_grey_levels)
            mask = grey_mask(levels, self.baseline.level, bright=self.baseline.bright)
            yield from class_rows("Otsu", pixels.confusion_of_grey(mask), None)
        if self.evaluation.baselines:
            yield from class_rows("constant", pixels.confusion_of_constant(), None)

    def object_tables(self) -> Iterator[Table]:
        """Yield a table of objects for each role, where labels are instances."""
        for role, (_, by_name) in self.counts.items():
            if not by_name:
                continue
            numbers, ours = self.roles[role], by_name["unet"]
            if self.baseline is not None:
                watershed = count_watershed(
                    self.volume, numbers, self.baseline, self.border_vox
                )
                by_name |= {WATERSHED: watershed} if watershed else {}
            yield {
                "role": role,
                "sections": ours.numbers,
                "rows": [
                    row
                    for name, counts in by_name.items()
                    for row in counts.rows(
                        name, self.threshold if name == "unet" else None
                    )
                ],
                "sizes": {name: counts.sizes() for name, counts in by_name.items()},
                "field_border_vox": self.border_vox,
            }

    def calibration(self) -> Iterator[dict[str, Any]]:
        """Yield predicted against true frequencies, by role and class."""
        for role, pixels in self.pixels.items():
            yield from pixels.describe_calibration(role)

    def described_terms(self) -> Iterator[dict[str, Any]]:
        """Yield what each section contributes, by role, predictor and metric."""
        for role, numbers in self.roles.items():
            scored = [z for z in numbers if z not in self.left_out]
            for name, by_metric in self.curves[role].items():
                chosen = self._chosen(name)
                for metric, curve in by_metric.items():
                    yield describe_terms(
                        role,
                        name,
                        curve,
                        sections=scored,
                        chosen=chosen.get(metric),
                    )

    def described_curves(self) -> Iterator[dict[str, Any]]:
        """Yield scores over thresholds, by role, predictor and metric."""
        for role, pixels in self.pixels.items():
            for name, by_metric in self.curves[role].items():
                for curve in by_metric.values():
                    yield describe_curve(role, name, curve)
            yield from pixels.describe_curves(role)


def _border_vox(evaluation: EvaluationConfig, volume: ScoredVolume) -> int:
    """Return how far the field of interest stays from the edge, after a check."""
    border = evaluation.field_of_interest_vox
    if isinstance(border, str):
        border = field_border_vox(border)
    check_field(volume.shape[1:], border)
    return border


def _rank(tables: list[Table]) -> list[int]:
    """Return the sections of the last role (test, if any), best first."""
    table = tables[-1] if tables else {"rows": [], "sections": []}
    ours = [row for row in table["rows"] if row["predictor"] == "unet"]
    for metric in ("v_rand", "dice_class_1"):
        for row in ours:
            if row["metric"] == metric and row["per_section"]:
                scores = zip(row["per_section"], table["sections"], strict=True)
                scored = [(s, number) for s, number in scores if s is not None]
                if scored:
                    return [number for _, number in sorted(scored, reverse=True)]
    return list(table["sections"])
