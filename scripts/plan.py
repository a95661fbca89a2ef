"""Rule plan."""

from pathlib import Path

from unetpipe.runtime.logs import log_to
from unetpipe.stages.plan import plan

log_to(Path(snakemake.log[0]))
plan(
    config=snakemake.params.config,
    volumes=snakemake.params.volumes,
    networks=snakemake.params.networks,
    jobs=snakemake.params.jobs,
    manifest=Path(snakemake.params.manifest),
    results=Path(snakemake.params.results),
    command=snakemake.params.command,
    record=Path(snakemake.params.record),
)
