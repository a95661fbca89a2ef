"""Overlap-tile prediction, part by part, and what is made of it.

IN   results/<name>/<model>/model.json, results/<name>/volumes/<volume>/ingest.json
OUT  results/<name>/<model>/<volume>/{probe,plan,prediction,segmentation}.json
"""


rule probe_prediction:
    """Find the tile that fits, by real forward passes."""
    input:
        ingest=rules.ingest_volume.output.record,
        model=ancient(rules.train_unet.output.model),
        model_json=rules.train_unet.output.model_json,
        quantised=ancient(by_name(RUNS.calibrated, PATHS.quantised)),
        calibrations=by_name(RUNS.calibrated, PATHS.calibration),
    output:
        record=PATHS.probe,
    log:
        PATHS.log("probe_prediction", "model", "volume"),
    benchmark:
        PATHS.benchmark("probe_prediction", "model", "volume")
    conda:
        CONDA
    threads: RUNS.threads("prediction")
    resources:
        gpu=int(not CONFIG.prediction.uses_openvino),
        mem_mb=grows(8000),
        runtime=grows(30),
    params:
        prediction=RUNS.section(
            "prediction", without=("parts", "block_shards", "keep_probability")
        ),
        code=fingerprint("unetpipe.stages.probe_prediction"),
    message:
        "Probing tiles for {wildcards.volume} with {wildcards.model}"
    script:
        "../../scripts/probe_prediction.py"


rule plan_prediction:
    """Lay the tile grid, share out the blocks, create the empty store."""
    input:
        ingest=rules.ingest_volume.output.record,
        model_json=rules.train_unet.output.model_json,
        probe=rules.probe_prediction.output.record,
        calibrations=by_name(RUNS.calibrated, PATHS.calibration),
    output:
        record=PATHS.plan,
    log:
        PATHS.log("plan_prediction", "model", "volume"),
    benchmark:
        PATHS.benchmark("plan_prediction", "model", "volume")
    localrule: True
    conda:
        CONDA
    params:
        prediction=RUNS.section("prediction", without=("keep_probability",)),
        class_names=CONFIG.labels.class_names,
        folder=subpath(output.record, parent=True),
        code=fingerprint(
            "unetpipe.stages.plan_prediction", "unetpipe.network.predictor"
        ),
    message:
        "Planning {wildcards.volume} with {wildcards.model}"
    script:
        "../../scripts/plan_prediction.py"


rule predict_part:
    """Predict one part's blocks; goes on after the last finished block."""
    input:
        plan=rules.plan_prediction.output.record,
        model=ancient(rules.train_unet.output.model),
        model_json=rules.train_unet.output.model_json,
        quantised=ancient(by_name(RUNS.calibrated, PATHS.quantised)),
    output:
        record=PATHS.predicted_part,
    log:
        PATHS.log("predict_part", "model", "volume", "part"),
    benchmark:
        PATHS.benchmark("predict_part", "model", "volume", "part")
    conda:
        CONDA
    threads: RUNS.threads("prediction")
    resources:
        gpu=int(not CONFIG.prediction.uses_openvino),
        mem_mb=memory_of_part,
        runtime=720,
    params:
        code=fingerprint("unetpipe.stages.predict_part"),
    message:
        "Predicting part {wildcards.part} of {wildcards.volume} with {wildcards.model}"
    script:
        "../../scripts/predict_part.py"


rule finish_prediction:
    """Verify every shard and add the pyramid."""
    input:
        plan=rules.plan_prediction.output.record,
        parts=RUNS.parts(PATHS.predicted_part, "prediction"),
    output:
        record=PATHS.prediction,
        marker=PATHS.probability,
    log:
        PATHS.log("finish_prediction", "model", "volume"),
    benchmark:
        PATHS.benchmark("finish_prediction", "model", "volume")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        with_pyramid=CONFIG.pyramid.parts == 1,
        code=fingerprint("unetpipe.stages.finish_prediction"),
    message:
        "Verifying the prediction of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/finish_prediction.py"
