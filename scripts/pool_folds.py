"""Rule pool_folds."""

from pathlib import Path

from unetpipe.logs import log_to
from unetpipe.stages.pool_folds import pool_folds

log_to(Path(snakemake.log[0]))
pool_folds(
    metrics=[Path(path) for path in snakemake.input.metrics],
    sections=[Path(path) for path in snakemake.input.sections],
    record=Path(snakemake.output.record),
)
