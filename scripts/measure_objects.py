"""Rule measure_objects."""

from pathlib import Path

from unetpipe.config import MeasureConfig
from unetpipe.measurement.volume import MeasureInputs
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.measure_objects import measure_objects

log_to(Path(snakemake.log[0]))
measure_objects(
    inputs=MeasureInputs(
        segmentation=Path(snakemake.input.segmentation),
        ingest=Path(snakemake.input.ingest),
        settings=MeasureConfig(**snakemake.params.measure),
    ),
    parts=[Path(part) for part in snakemake.input.parts],
    table=Path(snakemake.output.packed),
    text=Path(snakemake.output.table),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
