"""Rule view."""

from pathlib import Path

from unetpipe.runtime.logs import log_to
from unetpipe.stages.view import view

log_to(Path(snakemake.log[0]))
view(
    ingests=[Path(path) for path in snakemake.params.ingests],
    predictions=snakemake.params.predictions,
    port=snakemake.params.port,
    run=snakemake.params.run,
)
