"""Rule status."""

from pathlib import Path

from unetpipe.runtime.logs import log_to
from unetpipe.stages.status import status

log_to(Path(snakemake.log[0]))
status(
    volumes=snakemake.params.volumes,
    networks=snakemake.params.networks,
    results=Path(snakemake.params.results),
    outdated=snakemake.params.outdated,
    lots=snakemake.params.lots,
    logs=Path(snakemake.params.logs),
)
