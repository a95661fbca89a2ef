"""Rule collect_catalogue."""

from pathlib import Path

from unetpipe.runtime.logs import log_to
from unetpipe.stages.collect_catalogue import collect_catalogue

log_to(Path(snakemake.log[0]))
collect_catalogue(
    name=snakemake.params.name,
    results=Path(snakemake.params.results),
    wanted=snakemake.params.wanted,
    table=Path(snakemake.output.table),
    packed=Path(snakemake.output.packed),
)
