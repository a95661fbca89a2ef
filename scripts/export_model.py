"""Rule export_model."""

from pathlib import Path

from unetpipe.config import ExportConfig
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.export_model import export_model

log_to(Path(snakemake.log[0]))
export_model(
    model=Path(snakemake.input.model),
    model_json=Path(snakemake.input.model_json),
    ingest=Path(snakemake.params.ingest),
    section=snakemake.params.section,
    name=snakemake.params.name,
    export=ExportConfig(**snakemake.params.export),
    package=Path(snakemake.output.package),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
