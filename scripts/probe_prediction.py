"""Rule probe_prediction."""

from pathlib import Path

from unetpipe.config import PredictionConfig
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.probe_prediction import probe_prediction

log_to(Path(snakemake.log[0]))
probe_prediction(
    ingest=Path(snakemake.input.ingest),
    model=Path(snakemake.input.model),
    model_json=Path(snakemake.input.model_json),
    quantised=list(map(Path, snakemake.input.quantised)),
    calibrations=list(map(Path, snakemake.input.calibrations)),
    prediction=PredictionConfig(**snakemake.params.prediction),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
