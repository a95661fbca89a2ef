"""Rule calibrate_network."""

from pathlib import Path

from unetpipe.config import PredictionConfig
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.calibrate_network import calibrate_network
from unetpipe.targets.annotated import AnnotatedRow

log_to(Path(snakemake.log[0]))
calibrate_network(
    rows=[AnnotatedRow(**row) for row in snakemake.params.rows],
    model=Path(snakemake.input.model),
    model_json=Path(snakemake.input.model_json),
    prediction=PredictionConfig(**snakemake.params.prediction),
    quantised=Path(snakemake.output.quantised),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
