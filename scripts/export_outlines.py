"""Rule export_outlines."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.export_outlines import export_outlines

log_to(Path(snakemake.log[0]))
export_outlines(
    segmentation=Path(snakemake.input.segmentation),
    ingest=Path(snakemake.input.ingest),
    formats=snakemake.params.formats,
    class_names=snakemake.params.class_names,
    are_frames=snakemake.params.are_frames,
    folder=Path(snakemake.params.folder),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
