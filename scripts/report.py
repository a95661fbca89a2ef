"""Rule report."""

from pathlib import Path

from unetpipe.runtime.logs import log_to
from unetpipe.stages.report import report

log_to(Path(snakemake.log[0]))
report(
    config=snakemake.params.config,
    manifest=Path(snakemake.params.manifest),
    ingests=list(map(Path, snakemake.params.ingests)),
    weight_maps=list(map(Path, snakemake.params.weight_maps)),
    training=snakemake.params.training,
    predictions=snakemake.params.predictions,
    suggestions=list(map(Path, snakemake.input.suggestions)),
    output=Path(snakemake.output.page),
)
