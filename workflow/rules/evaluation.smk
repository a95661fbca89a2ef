"""Scores and the report.

IN   all records
OUT  results/<name>/<model>/<volume>/{metrics.json,seams.png},
     results/<name>/{metrics.csv,report.html}
     with export_ctc: results/<name>/<model>/<volume>/{ctc.json,<sequence>_RES/}
"""


rule evaluate_prediction:
    """Score a prediction on the annotated sections."""
    input:
        prediction=rules.finish_prediction.output.record,
        segmentation=rules.finish_segmentation.output.record,
        ingest=rules.ingest_volume.output.record,
        model_json=rules.train_unet.output.model_json,
    output:
        record=f"{PREDICTED}/metrics.json",
        picture=f"{PREDICTED}/seams.png",
        sections=f"{PREDICTED}/section_scores.json",
    log:
        f"{LOGS}/evaluate_prediction/{{model}}/{{volume}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate_prediction/{{model}}/{{volume}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        rows=scored_rows,
        evaluation=section("evaluation"),
        code=code_versions("unetpipe.stages.evaluate_prediction"),
    message:
        "Scoring {wildcards.model} on {wildcards.volume}"
    script:
        "../../scripts/evaluate_prediction.py"


rule compare_networks:
    """Put the scores of variants, folds and seeds side by side."""
    input:
        metrics=predicted(rules.evaluate_prediction.output.record, "test"),
        sections=predicted(rules.evaluate_prediction.output.sections, "test"),
    output:
        record=f"{RESULTS}/comparison.json",
    log:
        f"{LOGS}/compare_networks.log",
    benchmark:
        f"{BENCHMARKS}/compare_networks.tsv"
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        networks=scored_networks(),
        variants=CONFIG.variants,
        code=code_versions("unetpipe.stages.compare_networks"),
    message:
        "Comparing the networks"
    script:
        "../../scripts/compare_networks.py"


rule export_ctc:
    """Write the objects in the layout of the Cell Tracking Challenge."""
    input:
        segmentation=rules.finish_segmentation.output.record,
        ingest=rules.ingest_volume.output.record,
    output:
        record=f"{PREDICTED}/ctc.json",
    log:
        f"{LOGS}/export_ctc/{{model}}/{{volume}}.log",
    benchmark:
        f"{BENCHMARKS}/export_ctc/{{model}}/{{volume}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(120),
    params:
        folder=subpath(output.record, parent=True),
        code=code_versions("unetpipe.stages.export_ctc"),
    message:
        "Writing the masks of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/export_ctc.py"


rule collect_metrics:
    """Put all scores of the run into one table."""
    input:
        metrics=predicted(rules.evaluate_prediction.output.record, "validate", "test"),
        pooled=[rules.compare_networks.output.record] if are_networks_compared() else [],
    output:
        table=f"{RESULTS}/metrics.csv",
    log:
        f"{LOGS}/collect_metrics.log",
    benchmark:
        f"{BENCHMARKS}/collect_metrics.tsv"
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        name=CONFIG.name,
        metrics=[p for p in prediction_files() if p["metrics"]],
        code=code_versions("unetpipe.stages.collect_metrics"),
    message:
        "Collecting the scores"
    script:
        "../../scripts/collect_metrics.py"


rule report:
    """Put everything on one page that opens without a network."""
    input:
        manifest=rules.download_dataset.output.manifest,
        ingests=expand(rules.ingest_volume.output.record, volume=SHEET.volumes),
        weight_maps=expand(
            rules.compute_weight_map.output.record, volume=annotated_volumes()
        ),
        suggestions=rules.suggest_settings.output.record,
        trainings=expand(rules.train_unet.output.record, model=list(NETWORKS)),
        segmentations=predicted(
            rules.finish_segmentation.output.record, "validate", "test", "predict"
        ),
        metrics=predicted(rules.evaluate_prediction.output.record, "validate", "test"),
    output:
        page=f"{RESULTS}/report.html",
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{BENCHMARKS}/report.tsv"
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        name=CONFIG.name,
        config=CONFIG.model_dump(mode="json"),
        trainings=training_files(),
        predictions=prediction_files(),
        code=code_versions("unetpipe.stages.report"),
        template=hash_file(Path(page.__file__).with_name("report.html")),
    message:
        "Writing the report"
    script:
        "../../scripts/report.py"
