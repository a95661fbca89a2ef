"""Rule coarsen_part."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.coarsen_part import coarsen_part

log_to(Path(snakemake.log[0]))
coarsen_part(
    source=Path(snakemake.input.source),
    part=int(snakemake.wildcards.part),
    num_parts=snakemake.params.num_parts,
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
