"""Rule collect_measurements."""

from pathlib import Path

from unetpipe.runtime.logs import log_to
from unetpipe.stages.collect_measurements import collect_measurements

log_to(Path(snakemake.log[0]))
collect_measurements(
    volumes=snakemake.params.volumes,
    packed=Path(snakemake.output.packed),
    table=Path(snakemake.output.table),
    annotated=[Path(path) for path in snakemake.output.annotated],
)
