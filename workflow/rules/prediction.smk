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
    output:
        record=f"{PREDICTED}/probe.json",
    log:
        f"{LOGS}/probe_prediction/{{model}}/{{volume}}.log",
    benchmark:
        f"{BENCHMARKS}/probe_prediction/{{model}}/{{volume}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: threads_of("prediction")
    resources:
        gpu=1,
        mem_mb=grows(8000),
        runtime=grows(30),
    params:
        prediction=section(
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
    output:
        record=f"{PREDICTED}/plan.json",
    log:
        f"{LOGS}/plan_prediction/{{model}}/{{volume}}.log",
    benchmark:
        f"{BENCHMARKS}/plan_prediction/{{model}}/{{volume}}.tsv"
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        prediction=section("prediction", without=("keep_probability",)),
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
    output:
        record=f"{PREDICTED}/parts/{{part}}.json",
    log:
        f"{LOGS}/predict_part/{{model}}/{{volume}}/{{part}}.log",
    benchmark:
        f"{BENCHMARKS}/predict_part/{{model}}/{{volume}}/{{part}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: threads_of("prediction")
    resources:
        gpu=1,
        mem_mb=planned_memory_mb,
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
        parts=[
            f"{PREDICTED}/parts/{part}.json" for part in range(CONFIG.prediction.parts)
        ],
    output:
        record=f"{PREDICTED}/prediction.json",
        marker=f"{PREDICTED}/probability.json",
    log:
        f"{LOGS}/finish_prediction/{{model}}/{{volume}}.log",
    benchmark:
        f"{BENCHMARKS}/finish_prediction/{{model}}/{{volume}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
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


rule segment_part:
    """Number the components of one part's blocks."""
    input:
        prediction=rules.finish_prediction.output.record,
        probability=rules.finish_prediction.output.marker,
        model_json=rules.train_unet.output.model_json,
        ingest=rules.ingest_volume.output.record,
    output:
        record=f"{PREDICTED}/segment/{{part}}.json",
    log:
        f"{LOGS}/segment_part/{{model}}/{{volume}}/{{part}}.log",
    benchmark:
        f"{BENCHMARKS}/segment_part/{{model}}/{{volume}}/{{part}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        segmentation=section("segmentation"),
        folder=subpath(output.record, ancestor=2),
        code=fingerprint("unetpipe.stages.segment_part"),
    message:
        "Labelling part {wildcards.part} of {wildcards.volume} with {wildcards.model}"
    script:
        "../../scripts/segment_part.py"


rule merge_objects:
    """Find which components of all blocks are one object."""
    input:
        prediction=rules.finish_prediction.output.record,
        probability=rules.finish_prediction.output.marker,
        model_json=rules.train_unet.output.model_json,
        ingest=rules.ingest_volume.output.record,
        labelled=segmentation_parts("segment"),
    output:
        record=f"{PREDICTED}/segment/merge.json",
    log:
        f"{LOGS}/merge_objects/{{model}}/{{volume}}.log",
    benchmark:
        f"{BENCHMARKS}/merge_objects/{{model}}/{{volume}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(240),
    params:
        segmentation=section("segmentation"),
        folder=subpath(output.record, ancestor=2),
        code=fingerprint("unetpipe.stages.merge_objects"),
    message:
        "Merging the objects of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/merge_objects.py"


rule relabel_part:
    """Write mask and objects of one part's blocks."""
    input:
        prediction=rules.finish_prediction.output.record,
        probability=rules.finish_prediction.output.marker,
        model_json=rules.train_unet.output.model_json,
        ingest=rules.ingest_volume.output.record,
        merged=rules.merge_objects.output.record,
    output:
        record=f"{PREDICTED}/relabel/{{part}}.json",
    log:
        f"{LOGS}/relabel_part/{{model}}/{{volume}}/{{part}}.log",
    benchmark:
        f"{BENCHMARKS}/relabel_part/{{model}}/{{volume}}/{{part}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        segmentation=section("segmentation"),
        folder=subpath(output.record, ancestor=2),
        code=fingerprint("unetpipe.stages.relabel_part"),
    message:
        "Writing the objects of part {wildcards.part} of {wildcards.volume}"
    script:
        "../../scripts/relabel_part.py"


rule finish_segmentation:
    """Verify the objects, add pyramids and table; with one part, do all steps."""
    input:
        prediction=rules.finish_prediction.output.record,
        probability=rules.finish_prediction.output.marker,
        model_json=rules.train_unet.output.model_json,
        ingest=rules.ingest_volume.output.record,
        parts=steps_of_segmentation(),
    output:
        record=f"{PREDICTED}/segmentation.json",
    log:
        f"{LOGS}/finish_segmentation/{{model}}/{{volume}}.log",
    benchmark:
        f"{BENCHMARKS}/finish_segmentation/{{model}}/{{volume}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(240),
    params:
        segmentation=section("segmentation"),
        folder=subpath(output.record, parent=True),
        with_pyramid=CONFIG.pyramid.parts == 1,
        code=fingerprint("unetpipe.stages.finish_segmentation"),
    message:
        "Finishing the objects of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/finish_segmentation.py"
