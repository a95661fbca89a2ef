"""Small volumes that share a job: each takes the steps of its own jobs in one process.

IN   manifest; then the network, for a lot of volumes
OUT  results/<name>/lots/<lot>.{json,txt}, results/<name>/lots/<model>/<lot>.{json,txt}
     and of each volume what its own jobs would leave, which no rule declares

Which volumes these are: `lots` in the configuration, config/lots.py. Later jobs wait for
the file of hashes (.txt): it changes with what a volume left, and with nothing else.
"""

from unetpipe.config.lots import LOT_PATTERN


rule ingest_lot:
    """Store the small volumes of a lot, one after another in one process."""
    input:
        manifest=rules.download_dataset.output.manifest,
        scales=by_name(AWAITED.scales_of_lot),
    output:
        record=PATHS.ingested_lot,
        content=PATHS.ingested_content,
    log:
        PATHS.log("ingest_lot", "lot"),
    benchmark:
        PATHS.benchmark("ingest_lot", "lot")
    wildcard_constraints:
        lot=LOT_PATTERN,
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        members=asked_of_volumes(STEPS.ingesting),
        originals=originals_of_lot,
        orders=orders_of(STEPS.ingesting, "ingest_lot"),
        may_fail=by_name(STEPS.is_tried_again),
        code=fingerprint("unetpipe.stages.ingest_lot"),
    message:
        "Storing the volumes of lot {wildcards.lot}"
    script:
        "../../scripts/ingest_lot.py"


rule predict_lot:
    """Predict, segment and score the small volumes of a lot in one process."""
    input:
        stored=PATHS.ingested_content,
        model=ancient(rules.train_unet.output.model),
        model_json=rules.train_unet.output.model_json,
        quantised=ancient(by_name(RUNS.calibrated, PATHS.quantised)),
        calibrations=by_name(RUNS.calibrated, PATHS.calibration),
        learnt=by_name(AWAITED.training, "ingest"),
    output:
        record=PATHS.predicted_lot,
        content=PATHS.predicted_content,
    log:
        PATHS.log("predict_lot", "model", "lot"),
    benchmark:
        PATHS.benchmark("predict_lot", "model", "lot")
    wildcard_constraints:
        lot=LOT_PATTERN,
    conda:
        CONDA
    threads: RUNS.threads("prediction")
    resources:
        gpu=int(not CONFIG.prediction.uses_openvino),
        mem_mb=grows(8000),
        runtime=grows(720),
    params:
        members=asked_of_volumes(STEPS.predicting),
        orders=orders_of(STEPS.predicting, "predict_lot"),
        code=fingerprint("unetpipe.stages.predict_lot"),
    message:
        "Predicting the volumes of lot {wildcards.lot} with {wildcards.model}"
    script:
        "../../scripts/predict_lot.py"
