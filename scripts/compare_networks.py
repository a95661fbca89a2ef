"""Rule compare_networks."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.compare_networks import compare_networks

log_to(Path(snakemake.log[0]))
compare_networks(
    networks=snakemake.params.networks,
    variants=snakemake.params.variants,
    sections=[Path(path) for path in snakemake.params.sections],
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
