"""Rule suggest_settings."""

from pathlib import Path

from unetpipe import config
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.suggest_settings import suggest_settings
from unetpipe.targets.annotated import AnnotatedRow

log_to(Path(snakemake.log[0]))
suggest_settings(
    rows=[AnnotatedRow(**row) for row in snakemake.params.rows],
    ingest=config.IngestConfig(**snakemake.params.ingest),
    network=config.NetworkConfig(**snakemake.params.network),
    training=config.TrainingConfig(**snakemake.params.training),
    weight_map=config.WeightMapConfig(**snakemake.params.weight_map),
    snippet=Path(snakemake.output.snippet),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
