"""Rule ingest_part."""

from pathlib import Path

from unetpipe.config import IngestConfig
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.ingest_part import ingest_part

log_to(Path(snakemake.log[0]))
ingest_part(
    manifest=Path(snakemake.input.manifest),
    volume=snakemake.wildcards.volume,
    row=snakemake.params.row,
    ingest=IngestConfig(**snakemake.params.ingest),
    part=int(snakemake.wildcards.part),
    folder=Path(snakemake.params.folder),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
