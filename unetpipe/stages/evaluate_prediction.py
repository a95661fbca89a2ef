"""Rule evaluate_prediction: score a prediction on the annotated sections."""

import logging
import time
from collections.abc import Iterable, Sequence
from math import ceil
from pathlib import Path

from unetpipe.config import EvaluationConfig
from unetpipe.evaluation.known_sections import ChosenRules, LearntRow, chosen_baselines
from unetpipe.evaluation.oddities import find_oddities
from unetpipe.evaluation.passes import (
    measure_seams,
    project_evaluation_memory,
    scores_not_computed,
)
from unetpipe.evaluation.score_rows import score_definitions
from unetpipe.evaluation.scored_volume import (
    EvaluationInputs,
    ScoredRecords,
    ScoredRow,
    ScoredVolume,
)
from unetpipe.evaluation.tables import (
    Counts,
    calibrations,
    count_scores,
    describe_curves,
    describe_objects,
    describe_overlap,
    describe_section_scores,
    leading_metrics,
    object_score_tables,
    rank_sections,
    voxel_score_tables,
)
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.metrics import Definition, Metrics, Role, SectionScores, Table
from unetpipe.report.catalogue import SCORES
from unetpipe.report.page.charts import plot_seams
from unetpipe.report.page.svg import standalone_svg
from unetpipe.runtime.files import write_bytes_atomic
from unetpipe.runtime.machine import peak_rss_bytes
from unetpipe.storage.keeping import write_with_copy

log = logging.getLogger(__name__)

SHOWN_SECTIONS = 3


def evaluate_prediction(
    *,
    inputs: EvaluationInputs,
    rows: list[ScoredRow],
    evaluation: EvaluationConfig,
    learnt: Sequence[LearntRow] = (),
    picture: Path,
    sections: Path,
    record: Path,
) -> None:
    """Score the network, and baselines beside it, by the published definitions.

    All scores of the network are those of the delivered masks, at their threshold; the
    best threshold on the scored sections themselves is told beside, and named so.
    Sections with unlabelled voxels have no score over thresholds: they count, where
    annotated, for the overlap of classes and for objects.

    Parameters
    ----------
    inputs : EvaluationInputs
        Records.
    rows : list of ScoredRow
        Of this volume.
    evaluation : EvaluationConfig
        Which scores and baselines.
    learnt : sequence of LearntRow
        What the network learnt from and was chosen by, which choose the baselines too;
        without any, the validation rows of this volume do.
    picture : Path
        Where to write the seam report's picture, ``seams.svg``.
    sections : Path
        Where to write what each section contributes to the scores,
        ``section_scores.json``.
    record : Path
        Where to write ``metrics.json``.

    Raises
    ------
    GeometryError
        If the field of interest leaves nothing of a section.
    """
    began = time.monotonic()
    volume = ScoredVolume(ScoredRecords.read(inputs), evaluation.field_of_interest_vox)
    projected = project_evaluation_memory(
        volume, isbi_scores=evaluation.isbi_scores, baselines=evaluation.baselines
    )
    log.info("at most %d MB of memory", ceil(projected / 2**20))
    rules = (
        chosen_baselines(volume, rows, learnt)
        if evaluation.baselines
        else ChosenRules()
    )
    volume.grey_channel = rules.channel
    roles = volume.roles(rows)
    counts = count_scores(volume, roles, evaluation, rules.rules, folder=record.parent)
    tables = tuple(voxel_score_tables(counts))
    objects = tuple(object_score_tables(counts))
    seams = measure_seams(volume)
    write_bytes_atomic(picture, standalone_svg(plot_seams(seams)))
    leading = leading_metrics(volume.chosen_by)
    ranked = rank_sections(tables, objects, leading)
    defined = _defined((*tables, *objects))
    _describe_sections(volume.name, counts, defined).write(sections)
    scores = Metrics(
        volume=volume.name,
        schema_version=1,
        definitions=defined,
        role_sections={role: tuple(z) for role, z in counts.roles.items()},
        warnings=find_oddities(tables, objects),
        baselines=rules.describe(),
        not_computed=scores_not_computed(volume, evaluation),
        left_out=tuple(counts.left_out),
        tables=tables,
        objects=objects,
        calibration=tuple(calibrations(counts, volume.temperature)),
        curves=tuple(describe_curves(counts)),
        seams=seams.model_copy(update={"picture": picture.name}),
        leading=leading,
        sections_best=tuple(ranked[:SHOWN_SECTIONS]),
        sections_worst=tuple(ranked[::-1][:SHOWN_SECTIONS]),
        seconds=time.monotonic() - began,
        projected_peak_rss_bytes=projected,
        peak_rss_bytes=peak_rss_bytes(),
        circumstances=Circumstances.here(),
    )
    write_with_copy(record, scores, volume.records.segmentation.home)
    _tell(scores, record)


def _describe_sections(
    volume: str, counts: Counts, definitions: dict[str, Definition]
) -> SectionScores:
    """Return what each section contributes to the scores."""
    return SectionScores(
        volume=volume,
        definitions=definitions,
        rows=tuple(describe_section_scores(counts)),
        overlap=tuple(describe_overlap(counts)),
        objects=tuple(describe_objects(counts)),
        circumstances=Circumstances.here(),
    )


def _defined(tables: Iterable[Table]) -> dict[str, Definition]:
    return score_definitions(row.metric for table in tables for row in table.rows)


def _tell(scores: Metrics, record: Path) -> None:
    for warning in scores.warnings:
        log.warning("%s", warning)
    for note in scores.not_computed:
        log.info("%s", note)
    for role in scores.role_sections:
        log.info("%s sections: %s", role, _brief(scores, role))
    log.info("all scores, and those of the baselines: %s", record)


def _brief(scores: Metrics, role: Role) -> str:
    """Return the network's scores that the catalogue has, and Dice, in a line."""
    shown = {
        metric: row.score
        for table in scores.all_tables
        if table.role == role
        for metric, row in table.ours.items()
    }
    return ", ".join(
        f"{name} {score:.4g}"
        for name, score in shown.items()
        if (name in SCORES or name.startswith("dice_")) and score is not None
    )
