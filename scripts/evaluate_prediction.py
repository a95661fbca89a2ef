"""Rule evaluate_prediction."""

from pathlib import Path

from unetpipe.config import EvaluationConfig
from unetpipe.evaluation.scored_volume import EvaluationInputs
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.evaluate_prediction import evaluate_prediction

log_to(Path(snakemake.log[0]))
evaluate_prediction(
    inputs=EvaluationInputs(
        prediction=Path(snakemake.input.prediction),
        segmentation=Path(snakemake.input.segmentation),
        ingest=Path(snakemake.input.ingest),
        model_json=Path(snakemake.input.model_json),
    ),
    rows=snakemake.params.rows,
    evaluation=EvaluationConfig(**snakemake.params.evaluation),
    learnt=snakemake.params.learnt,
    picture=Path(snakemake.output.picture),
    sections=Path(snakemake.output.sections),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
