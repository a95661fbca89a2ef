"""From labels to a trained network.

IN   results/<name>/volumes/<volume>/ingest.json; or with `trained` a network's folder
OUT  results/<name>/suggestions.{json,yaml}
     results/<name>/<model>/model.safetensors, model.json, history.csv, train.json
     results/<name>/<model>/int8.safetensors, calibration.json
"""


rule compute_weight_map:
    """Weigh the voxels between touching cells (paper: eq. 2)."""
    input:
        ingest=rules.ingest_volume.output.record,
    output:
        record=PATHS.weight_map,
    log:
        PATHS.log("compute_weight_map", "volume"),
    benchmark:
        PATHS.benchmark("compute_weight_map", "volume")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(120),
    params:
        weight_map=RUNS.stored_weight_map(),
        num_classes=CONFIG.network.num_classes,
        ndim=CONFIG.network.ndim,
        field_of_interest=CONFIG.evaluation.field_of_interest_vox,
        stores=lambda wildcards: RUNS.stores_to_learn(wildcards.volume),
        code=fingerprint("unetpipe.stages.compute_weight_map"),
    message:
        "Weighing the borders of {wildcards.volume}"
    script:
        "../../scripts/compute_weight_map.py"


rule suggest_settings:
    """Say which settings the annotated sections suggest, and why; apply none."""
    input:
        ingest=AWAITED.first_training("ingest"),
        weight_map=AWAITED.first_training("weight_map"),
    output:
        record=PATHS.suggestions,
        snippet=PATHS.suggested_settings,
    log:
        PATHS.log("suggest_settings"),
    benchmark:
        PATHS.benchmark("suggest_settings")
    localrule: True
    conda:
        CONDA
    params:
        rows=RUNS.rows_to_train(next(iter(NETWORKS))),
        ingest=RUNS.ingest_settings(),
        network=RUNS.section("network"),
        training=RUNS.section("training"),
        weight_map=RUNS.section("weight_map"),
        code=fingerprint("unetpipe.stages.suggest_settings"),
    message:
        "Measuring what the annotations suggest"
    script:
        "../../scripts/suggest_settings.py"


rule train_unet:
    """Train one network; an interrupted training goes on from its last checkpoint."""
    input:
        ingest=by_name(AWAITED.training, "ingest"),
        weight_map=by_name(AWAITED.training, "weight_map"),
    output:
        model=PATHS.weights,
        model_json=PATHS.model,
        history=PATHS.history,
        record=PATHS.training,
    log:
        PATHS.log("train_unet", "model"),
    benchmark:
        PATHS.benchmark("train_unet", "model")
    wildcard_constraints:
        model=one_of([name for name in NETWORKS if name not in RUNS.adopted]),
    conda:
        CONDA
    threads: RUNS.threads("training") * CONFIG.training.processes
    resources:
        gpu=CONFIG.training.processes * CONFIG.training.nodes,
        nodes=CONFIG.training.nodes,
        mem_mb=grows(8000 * CONFIG.training.processes),
        runtime=1440,
    params:
        rows=by_name(RUNS.rows_to_train),
        network=by_name(RUNS.section_of_network, "network"),
        training=by_name(RUNS.section_of_network, "training"),
        augmentation=by_name(RUNS.section_of_network, "augmentation"),
        weight_map=by_name(RUNS.section_of_network, "weight_map"),
        segmentation=by_name(RUNS.choosing),
        average=RUNS.section("prediction")["average"],
        precision=RUNS.precision_of_thresholds(),
        parent=by_name(RUNS.parent_weights),
        state=PATHS.training_state,
        code=fingerprint("unetpipe.stages.train_unet"),
    message:
        f"Training {{wildcards.model}} for {CONFIG.training.steps} steps"
    script:
        "../../scripts/train_unet.py"


rule adopt_network:
    """Take over a network that was trained earlier or elsewhere, as it is."""
    input:
        model=ancient(by_name(RUNS.adopted_file, "model.safetensors")),
        model_json=by_name(RUNS.adopted_file, "model.json"),
    output:
        model=PATHS.weights,
        model_json=PATHS.model,
        history=PATHS.history,
        record=PATHS.training,
    log:
        PATHS.log("adopt_network", "model"),
    benchmark:
        PATHS.benchmark("adopt_network", "model")
    wildcard_constraints:
        model=one_of(RUNS.adopted),
    localrule: True
    conda:
        CONDA
    params:
        folder=lambda wildcards: RUNS.adopted[wildcards.model],
        num_classes=CONFIG.network.num_classes,
        code=fingerprint("unetpipe.stages.adopt_network"),
    message:
        "Taking over the network {wildcards.model}"
    script:
        "../../scripts/adopt_network.py"


rule join_networks:
    """Join all folds and seeds of a variant into one network."""
    input:
        models=by_name(RUNS.members, PATHS.weights),
        model_jsons=by_name(RUNS.members, PATHS.model),
    output:
        model=PATHS.weights,
        model_json=PATHS.model,
    log:
        PATHS.log("join_networks", "model"),
    benchmark:
        PATHS.benchmark("join_networks", "model")
    wildcard_constraints:
        model=one_of(ENSEMBLES),
    localrule: True
    conda:
        CONDA
    params:
        names=by_name(RUNS.member_names),
        code=fingerprint("unetpipe.stages.join_networks"),
    message:
        "Joining the networks of {wildcards.model}"
    script:
        "../../scripts/join_networks.py"


rule calibrate_network:
    """Quantise a network with scales from its training rows (prediction in int8)."""
    input:
        model=ancient(rules.train_unet.output.model),
        model_json=rules.train_unet.output.model_json,
        ingest=by_name(AWAITED.training, "ingest"),
        weight_map=by_name(AWAITED.training, "weight_map"),
    output:
        quantised=PATHS.quantised,
        record=PATHS.calibration,
    log:
        PATHS.log("calibrate_network", "model"),
    benchmark:
        PATHS.benchmark("calibrate_network", "model")
    wildcard_constraints:
        model=one_of([name for name in NETWORKS if name not in RUNS.adopted]),
    conda:
        CONDA
    threads: RUNS.threads("prediction")
    resources:
        mem_mb=grows(8000),
        runtime=grows(120),
    params:
        rows=by_name(RUNS.rows_to_train),
        prediction={
            key: RUNS.section("prediction")[key]
            for key in ("precision", "average", "threads")
        },
        code=fingerprint("unetpipe.stages.calibrate_network"),
    message:
        "Calibrating {wildcards.model} for int8"
    script:
        "../../scripts/calibrate_network.py"


rule export_model:
    """Pack a trained network for other programs (bioimage.io)."""
    input:
        model=rules.train_unet.output.model,
        model_json=rules.train_unet.output.model_json,
        stored=by_name(AWAITED.example),
    output:
        package=PATHS.package,
        record=PATHS.export,
    log:
        PATHS.log("export_model", "model"),
    benchmark:
        PATHS.benchmark("export_model", "model")
    wildcard_constraints:
        model=one_of(NETWORKS),
    conda:
        CONDA
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        ingest=lambda wildcards, input: RUNS.example_row(wildcards.model)["ingest"],
        section=by_name(RUNS.example_section),
        name=f"unetpipe {CONFIG.name}",
        export=RUNS.section("export_model"),
        code=fingerprint("unetpipe.stages.export_model"),
    message:
        "Packing {wildcards.model} for other programs"
    script:
        "../../scripts/export_model.py"
