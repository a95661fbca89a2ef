"""Rule finish_pyramid."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.finish_pyramid import finish_pyramid

log_to(Path(snakemake.log[0]))
finish_pyramid(
    source=Path(snakemake.input.source),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
