"""Rule export_ctc."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.export_ctc import export_ctc

log_to(Path(snakemake.log[0]))
export_ctc(
    segmentation=Path(snakemake.input.segmentation),
    ingest=Path(snakemake.input.ingest),
    tracks=[Path(record) for record in snakemake.input.tracks],
    folder=Path(snakemake.params.folder),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
