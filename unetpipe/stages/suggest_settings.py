"""Rule suggest_settings: what the annotated volumes suggest for the configuration."""

import logging
from collections.abc import Sequence
from pathlib import Path

import yaml

from unetpipe.config import NetworkConfig, TrainingConfig, WeightMapConfig
from unetpipe.errors import DataError
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.suggestions import (
    MeasuredVolume,
    SuggestedSetting,
    Suggestions,
)
from unetpipe.records.volume import IngestedVolume
from unetpipe.records.weight_map import WeightMap
from unetpipe.runtime.files import (
    write_bytes_atomic,
)
from unetpipe.survey.settings import compare_with_sheet
from unetpipe.survey.suggestions import (
    Suggestion,
    VolumePrint,
    as_nested,
    class_weights,
    remarks,
    suggest,
)
from unetpipe.targets.annotated import AnnotatedRow
from unetpipe.tiling.patch_size import choose_patch

log = logging.getLogger(__name__)


def suggest_settings(
    *,
    rows: Sequence[AnnotatedRow],
    network: NetworkConfig,
    training: TrainingConfig,
    weight_map: WeightMapConfig,
    snippet: Path,
    record: Path,
) -> None:
    """Measure the training sections, and say which settings would suit them.

    Nothing is applied: the suggestions are logged, recorded, and written as YAML that
    can be pasted into a configuration.

    Parameters
    ----------
    rows : sequence of AnnotatedRow
        Of the sheet, with the role train or validate.
    network, training, weight_map : config sections
        As configured.
    snippet : Path
        Where to write the suggested changes (YAML).
    record : Path
        Where to write ``suggestions.json``.

    Raises
    ------
    DataError
        If no training section is annotated.
    """
    prints = [_measure(row, weight_map) for row in rows if row.role == "train"]
    if not any(sum(p.class_counts) for p in prints):
        raise DataError(
            "no voxel of a training section is annotated, so there is nothing to "
            "measure; check labels and unlabelled in the sheet"
        )
    channels = IngestedVolume.read(rows[0].ingest).num_channels
    spec = network.spec(channels)
    shapes = [
        (p.num_sections if spec.ndim == 3 else 1, *p.section_shape) for p in prints
    ]
    settings = {
        "network": network.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "weight_map": weight_map.model_dump(mode="json"),
    }
    found = suggest(prints, spec, settings, choose_patch(training.patch, spec, shapes))
    has_validation = any(row.role == "validate" for row in rows)
    notes = remarks(prints, spec, has_validation=has_validation)
    notes += compare_with_sheet(found, network, shapes, channels)
    text = yaml.safe_dump(as_nested(found), sort_keys=False) if as_nested(found) else ""
    for line in [*_table(found), *notes]:
        log.info("%s", line)
    if text:
        log.info("to try these, put into the configuration:\n%s", text)
    head = "# Suggested by the annotated sections; reasons: suggestions.json\n"
    write_bytes_atomic(snippet, (head + text).encode())
    Suggestions(
        volumes=tuple(map(_describe, prints)),
        suggestions=tuple(SuggestedSetting(**one.to_json()) for one in found),
        remarks=tuple(notes),
        yaml=text,
        circumstances=Circumstances.here(),
    ).write(record)


def _measure(row: AnnotatedRow, weight_map: WeightMapConfig) -> VolumePrint:
    """Return the fingerprint of one row's sections."""
    volume, weights = IngestedVolume.read(row.ingest), WeightMap.read(row.weight_map)
    depth, height, width = volume.shape
    sections = range(depth) if row.sections is None else row.sections
    counts = [weights.class_counts[z] for z in sections]
    totals = tuple(map(sum, zip(*counts, strict=True)))
    # Cells are class 1 of ids and masks; of classes, all that is not the border.
    cells = totals[1]
    if volume.labels and volume.labels.label_kind == "classes":
        border = weight_map.border_class
        cells = 0 if border is None else sum(totals) - totals[border]
    return VolumePrint(
        volume=volume.volume,
        section_shape=(height, width),
        num_sections=len(counts),
        voxel_size_nm=volume.voxel_size_nm,
        class_counts=totals,
        num_cells=sum(weights.num_cells[z] for z in sections),
        cell_voxels=cells,
        is_size_known=volume.voxel_size_from != "nobody",
    )


def _describe(volume: VolumePrint) -> MeasuredVolume:
    return MeasuredVolume(
        volume=volume.volume,
        section_shape=volume.section_shape,
        num_sections=volume.num_sections,
        voxel_size_nm=volume.voxel_size_nm,
        class_counts=volume.class_counts,
        class_weights=tuple(class_weights(volume.class_counts)),
        num_cells=volume.num_cells,
        cell_diameter_vox=volume.cell_diameter_vox,
    )


def _table(found: list[Suggestion]) -> list[str]:
    """Return the suggestions as lines of a table."""
    lines = [("setting", "now", "suggested", "why")]
    lines += [
        (s.key, str(s.now), str(s.suggested) if s.is_change else "keep", s.why)
        for s in found
    ]
    widths = [max(len(line[k]) for line in lines) for k in range(3)]
    return [
        "  ".join([*(line[k].ljust(widths[k]) for k in range(3)), line[3]])
        for line in lines
    ]
