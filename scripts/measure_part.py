"""Rule measure_part."""

from pathlib import Path

from unetpipe.config import MeasureConfig
from unetpipe.measurement.volume import MeasureInputs
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.measure_part import measure_part

log_to(Path(snakemake.log[0]))
measure_part(
    inputs=MeasureInputs(
        segmentation=Path(snakemake.input.segmentation),
        ingest=Path(snakemake.input.ingest),
        settings=MeasureConfig(**snakemake.params.measure),
    ),
    part=int(snakemake.wildcards.part),
    table=Path(snakemake.output.table),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
