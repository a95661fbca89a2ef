"""Rule collect_metrics."""

from pathlib import Path

from unetpipe.runtime.logs import log_to
from unetpipe.stages.collect_metrics import collect_metrics

log_to(Path(snakemake.log[0]))
collect_metrics(
    name=snakemake.params.name,
    metrics=snakemake.params.metrics,
    pooled=list(map(Path, snakemake.input.pooled)),
    table=Path(snakemake.output.table),
)
