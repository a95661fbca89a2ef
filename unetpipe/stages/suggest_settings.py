"""Rule suggest_settings: what the annotated volumes suggest for the configuration."""

import logging
from collections.abc import Sequence
from pathlib import Path

import yaml

from unetpipe.config import IngestConfig, NetworkConfig, TrainingConfig, WeightMapConfig
from unetpipe.errors import DataError
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.suggestions import (
    SuggestedSetting,
    Suggestions,
)
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.files import (
    write_bytes_atomic,
)
from unetpipe.runtime.text import format_table
from unetpipe.survey.settings import compare_with_sheet
from unetpipe.survey.suggestions import (
    describe_measured,
    measure_row,
    nested_settings,
    suggest,
    suggestion_remarks,
)
from unetpipe.targets.annotated import AnnotatedRow
from unetpipe.tiling.patch_size import choose_patch

log = logging.getLogger(__name__)

HEADER = ("setting", "now", "suggested", "why")


def suggest_settings(
    *,
    rows: Sequence[AnnotatedRow],
    ingest: IngestConfig,
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
    ingest, network, training, weight_map : config sections
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
    prints = [
        measure_row(row, weight_map.border_class) for row in rows if row.role == "train"
    ]
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
        "ingest": ingest.model_dump(mode="json"),
        "network": network.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "weight_map": weight_map.model_dump(mode="json"),
    }
    found = suggest(prints, spec, settings, choose_patch(training.patch, spec, shapes))
    has_validation = any(row.role == "validate" for row in rows)
    notes = suggestion_remarks(prints, spec, has_validation=has_validation)
    notes += compare_with_sheet(found, network, shapes, channels)
    text = (
        yaml.safe_dump(nested_settings(found), sort_keys=False)
        if nested_settings(found)
        else ""
    )
    table = [
        (s.key, str(s.now), str(s.suggested) if s.is_change else "keep", s.why)
        for s in found
    ]
    for line in [*format_table(HEADER, table).splitlines(), *notes]:
        log.info("%s", line)
    if text:
        log.info("to try these, put into the configuration:\n%s", text)
    head = "# Suggested by the annotated sections; reasons: suggestions.json\n"
    write_bytes_atomic(snippet, (head + text).encode())
    Suggestions(
        volumes=tuple(map(describe_measured, prints)),
        suggestions=tuple(SuggestedSetting(**one.to_json()) for one in found),
        remarks=tuple(notes),
        yaml=text,
        circumstances=Circumstances.here(),
    ).write(record)
