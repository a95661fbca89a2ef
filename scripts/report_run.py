"""Rule report_run."""

from pathlib import Path

from unetpipe.runtime.logs import log_to
from unetpipe.stages.report_run import report_run

log_to(Path(snakemake.log[0]))
report_run(
    name=snakemake.params.name,
    models=snakemake.params.models,
    ingests=list(map(Path, snakemake.params.ingests)),
    compared=list(map(Path, snakemake.input.compared)),
    output=Path(snakemake.output.page),
)
