"""Scores and the report.

IN   all records
OUT  results/<name>/<model>/<volume>/{metrics.json,seams.svg},
     results/<name>/{metrics.csv,catalogue.csv,catalogue.parquet,report.html},
     results/<name>/<model>/report.html
     with export_ctc: results/<name>/<model>/<volume>/{ctc.json,<sequence>_RES/}
"""


rule evaluate_prediction:
    """Score a prediction on the annotated sections."""
    input:
        prediction=rules.finish_prediction.output.record,
        probability=rules.finish_prediction.output.marker,
        segmentation=rules.finish_segmentation.output.record,
        ingest=rules.ingest_volume.output.record,
        model_json=rules.train_unet.output.model_json,
    output:
        record=f"{PREDICTED}/metrics.json",
        picture=report(
            f"{PREDICTED}/seams.svg",
            caption="../report/evaluate_prediction.rst",
            category="Scores",
            subcategory="Seams",
            labels={"network": "{model}", "volume": "{volume}"},
        ),
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
        code=fingerprint("unetpipe.stages.evaluate_prediction"),
    message:
        "Scoring {wildcards.model} on {wildcards.volume}"
    script:
        "../../scripts/evaluate_prediction.py"


rule compare_networks:
    """Put the scores of variants, folds and seeds side by side."""
    input:
        metrics=compared(rules.evaluate_prediction.output.record),
        sections=compared(rules.evaluate_prediction.output.sections),
    output:
        record=report(
            f"{RESULTS}/comparison.json",
            caption="../report/compare_networks.rst",
            category="Scores",
            subcategory="Tables",
            labels={"table": "variants, folds, seeds"},
        ),
    log:
        f"{LOGS}/compare_networks.log",
    benchmark:
        f"{BENCHMARKS}/compare_networks.tsv"
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        networks=scored_networks(),
        variants=compared_variants(),
        code=fingerprint("unetpipe.stages.compare_networks"),
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
        code=fingerprint("unetpipe.stages.export_ctc"),
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
        table=report(
            f"{RESULTS}/metrics.csv",
            caption="../report/collect_metrics.rst",
            category="Scores",
            subcategory="Tables",
            labels={"table": "all scores"},
        ),
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
        code=fingerprint("unetpipe.stages.collect_metrics"),
    message:
        "Collecting the scores"
    script:
        "../../scripts/collect_metrics.py"


rule collect_catalogue:
    """List every result of the run, former ones too: where, of what, how good."""
    input:
        segmentations=predicted(
            rules.finish_segmentation.output.record, "validate", "test", "predict"
        ),
        metrics=predicted(rules.evaluate_prediction.output.record, "validate", "test"),
        pyramids=lambda wildcards: pyramids(),
        probabilities=lambda wildcards: probabilities(),
        pages=lambda wildcards: pages_before_dropping(),
    output:
        table=report(
            f"{RESULTS}/catalogue.csv",
            caption="../report/collect_catalogue.rst",
            category="Reports",
            labels={"page": "catalogue of results"},
        ),
        packed=f"{RESULTS}/catalogue.parquet",
    log:
        f"{LOGS}/collect_catalogue.log",
    benchmark:
        f"{BENCHMARKS}/collect_catalogue.tsv"
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        name=CONFIG.name,
        results=subpath(output.table, parent=True),
        wanted=[
            {"model": model, "volume": volume}
            for model, volume in predicted_pairs("validate", "test", "predict")
        ],
        left_over=left_over_results,
        code=fingerprint("unetpipe.stages.collect_catalogue"),
    message:
        "Listing all results"
    script:
        "../../scripts/collect_catalogue.py"


rule report:
    """Put a network and what it made on one page that opens without a network."""
    input:
        manifest=rules.download_dataset.output.manifest,
        ingests=reported_volumes(
            rules.ingest_volume.output.record, "train", "validate", "test", "predict"
        ),
        suggestions=suggested(rules.suggest_settings.output.record),
        weight_maps=training_records("weight_map"),
        training=trained_files,
        segmentations=reported("segmentation"),
        metrics=reported("metrics"),
    output:
        page=report(
            f"{MODEL}/report.html",
            caption="../report/report.rst",
            category="Reports",
            labels={"page": "network {model}"},
        ),
    log:
        f"{LOGS}/report/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/report/{{model}}.tsv"
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        config=configuration_of,
        training=training_files,
        predictions=predictions_of,
        code=fingerprint("unetpipe.stages.report"),
        templates=templates_version(),
    message:
        "Writing the report of {wildcards.model}"
    script:
        "../../scripts/report.py"


rule report_run:
    """Write the page to read first: several networks side by side, or the only one."""
    input:
        pages=expand(rules.report.output.page, model=[*NETWORKS, *ENSEMBLES]),
        ingests=expand(rules.ingest_volume.output.record, volume=SHEET.volumes),
        compared=(
            [rules.compare_networks.output.record] if are_networks_compared() else []
        ),
        earlier=earlier_records(),
    output:
        page=report(
            f"{RESULTS}/report.html",
            caption="../report/report_run.rst",
            category="Reports",
            labels={"page": "the page to read first"},
        ),
    log:
        f"{LOGS}/report_run.log",
    benchmark:
        f"{BENCHMARKS}/report_run.tsv"
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        name=CONFIG.name,
        models=compared_models(),
        code=fingerprint("unetpipe.stages.report_run"),
        templates=templates_version(),
    message:
        "Writing the page to read first"
    script:
        "../../scripts/report_run.py"
