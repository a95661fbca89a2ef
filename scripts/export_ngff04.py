"""Rule export_ngff04."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.export_ngff04 import export_ngff04

log_to(Path(snakemake.log[0]))
export_ngff04(
    ingest=Path(snakemake.input.ingest),
    prediction=Path(snakemake.input.prediction),
    segmentation=Path(snakemake.input.segmentation),
    levels=tuple(snakemake.params.levels),
    folder=Path(snakemake.params.folder),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
