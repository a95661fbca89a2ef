"""From labels to a trained network.

IN   results/<name>/volumes/<volume>/ingest.json; or with `trained` a network's folder
OUT  results/<name>/suggestions.{json,yaml}
     results/<name>/<model>/model.safetensors, model.json, history.csv, train.json
"""


rule compute_weight_map:
    """Weigh the voxels between touching cells (paper: eq. 2)."""
    input:
        ingest=rules.ingest_volume.output.record,
    output:
        record=f"{VOLUME}/weight_map.json",
    log:
        f"{LOGS}/compute_weight_map/{{volume}}.log",
    benchmark:
        f"{BENCHMARKS}/compute_weight_map/{{volume}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(120),
    params:
        weight_map=stored_weight_map(),
        num_classes=CONFIG.network.num_classes,
        ndim=CONFIG.network.ndim,
        field_of_interest=CONFIG.evaluation.field_of_interest_vox,
        border_store=f"{VOLUME}/border_term.ome.zarr",
        target_store=f"{VOLUME}/target.ome.zarr",
        code=fingerprint("unetpipe.stages.compute_weight_map"),
    message:
        "Weighing the borders of {wildcards.volume}"
    script:
        "../../scripts/compute_weight_map.py"


rule suggest_settings:
    """Say which settings the annotated sections suggest, and why; apply none."""
    input:
        ingest=first_training_records("ingest"),
        weight_map=first_training_records("weight_map"),
    output:
        record=f"{RESULTS}/suggestions.json",
        snippet=f"{RESULTS}/suggestions.yaml",
    log:
        f"{LOGS}/suggest_settings.log",
    benchmark:
        f"{BENCHMARKS}/suggest_settings.tsv"
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        rows=rows_to_train(next(iter(NETWORKS))),
        network=section("network"),
        training=section("training"),
        weight_map=section("weight_map"),
        code=fingerprint("unetpipe.stages.suggest_settings"),
    message:
        "Measuring what the annotations suggest"
    script:
        "../../scripts/suggest_settings.py"


rule train_unet:
    """Train one network; an interrupted training goes on from its last checkpoint."""
    input:
        ingest=training_records("ingest"),
        weight_map=training_records("weight_map"),
    output:
        model=f"{MODEL}/model.safetensors",
        model_json=f"{MODEL}/model.json",
        history=f"{MODEL}/history.csv",
        record=f"{MODEL}/train.json",
    log:
        f"{LOGS}/train_unet/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/train_unet/{{model}}.tsv"
    wildcard_constraints:
        model=one_of([name for name in NETWORKS if name not in ADOPTED]),
    conda:
        "../envs/unetpipe.yaml"
    threads: threads_of("training") * CONFIG.training.processes
    resources:
        gpu=CONFIG.training.processes * CONFIG.training.nodes,
        nodes=CONFIG.training.nodes,
        mem_mb=grows(8000 * CONFIG.training.processes),
        runtime=1440,
    params:
        rows=training_rows,
        network=section_of_network("network"),
        training=section_of_network("training"),
        augmentation=section_of_network("augmentation"),
        weight_map=section_of_network("weight_map"),
        segmentation=choosing_of_network,
        average=section("prediction")["average"],
        precision=section("prediction")["precision"],
        state=f"{MODEL}/state",
        code=fingerprint("unetpipe.stages.train_unet"),
    message:
        f"Training {{wildcards.model}} for {CONFIG.training.steps} steps"
    script:
        "../../scripts/train_unet.py"


rule adopt_network:
    """Take over a network that was trained earlier or elsewhere, as it is."""
    input:
        model=ancient(adopted_file("model.safetensors")),
        model_json=adopted_file("model.json"),
    output:
        model=f"{MODEL}/model.safetensors",
        model_json=f"{MODEL}/model.json",
        history=f"{MODEL}/history.csv",
        record=f"{MODEL}/train.json",
    log:
        f"{LOGS}/adopt_network/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/adopt_network/{{model}}.tsv"
    wildcard_constraints:
        model=one_of(ADOPTED),
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        folder=lambda wildcards: ADOPTED[wildcards.model],
        num_classes=CONFIG.network.num_classes,
        code=fingerprint("unetpipe.stages.adopt_network"),
    message:
        "Taking over the network {wildcards.model}"
    script:
        "../../scripts/adopt_network.py"


rule join_networks:
    """Join all folds and seeds of a variant into one network."""
    input:
        models=members(rules.train_unet.output.model),
        model_jsons=members(rules.train_unet.output.model_json),
    output:
        model=f"{MODEL}/model.safetensors",
        model_json=f"{MODEL}/model.json",
    log:
        f"{LOGS}/join_networks/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/join_networks/{{model}}.tsv"
    wildcard_constraints:
        model=one_of(ENSEMBLES),
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        names=lambda wildcards: list(ENSEMBLES[wildcards.model].members),
        code=fingerprint("unetpipe.stages.join_networks"),
    message:
        "Joining the networks of {wildcards.model}"
    script:
        "../../scripts/join_networks.py"


rule export_model:
    """Pack a trained network for other programs (bioimage.io)."""
    input:
        model=rules.train_unet.output.model,
        model_json=rules.train_unet.output.model_json,
        ingest=lambda wildcards: example_row(wildcards)["ingest"],
    output:
        package=f"{MODEL}/bioimageio.zip",
        record=f"{MODEL}/export.json",
    log:
        f"{LOGS}/export_model/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/export_model/{{model}}.tsv"
    wildcard_constraints:
        model=one_of(NETWORKS),
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        section=lambda wildcards: (example_row(wildcards)["sections"] or [0])[0],
        name=f"unetpipe {CONFIG.name}",
        export=section("export_model"),
        code=fingerprint("unetpipe.stages.export_model"),
    message:
        "Packing {wildcards.model} for other programs"
    script:
        "../../scripts/export_model.py"
