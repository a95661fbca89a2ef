"""Rule plan_prediction."""

from pathlib import Path

from unetpipe.config import PredictionConfig
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.plan_prediction import plan_prediction

log_to(Path(snakemake.log[0]))
plan_prediction(
    ingest=Path(snakemake.input.ingest),
    model_json=Path(snakemake.input.model_json),
    probe=Path(snakemake.input.probe),
    calibrations=list(map(Path, snakemake.input.calibrations)),
    prediction=PredictionConfig(**snakemake.params.prediction),
    folder=Path(snakemake.params.folder),
    class_names=snakemake.params.class_names,
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
