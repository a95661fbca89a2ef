"""Scores and the report.

IN   all records
OUT  results/<name>/<model>/<volume>/{metrics.json,seams.svg},
     results/<name>/{metrics.csv,catalogue.csv,catalogue.parquet,report.html},
     results/<name>/<model>/report.html
     with export_outlines: results/<name>/<model>/<volume>/outlines{.json,.geojson,-rois.zip}
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
        learnt=by_name(AWAITED.training, "ingest"),
    output:
        record=PATHS.metrics,
        picture=report(
            PATHS.seams,
            caption="../report/evaluate_prediction.rst",
            category="Scores",
            subcategory="Seams",
            labels={"network": "{model}", "volume": "{volume}"},
        ),
        sections=PATHS.section_scores,
    log:
        PATHS.log("evaluate_prediction", "model", "volume"),
    benchmark:
        PATHS.benchmark("evaluate_prediction", "model", "volume")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        rows=by_name(RUNS.scored_rows),
        learnt=by_name(RUNS.rows_to_train),
        evaluation=RUNS.section("evaluation"),
        code=fingerprint("unetpipe.stages.evaluate_prediction"),
    message:
        "Scoring {wildcards.model} on {wildcards.volume}"
    script:
        "../../scripts/evaluate_prediction.py"


rule compare_networks:
    """Put the scores of variants, folds and seeds side by side."""
    input:
        sections=AWAITED.comparison(PATHS.section_scores),
    output:
        record=report(
            PATHS.comparison,
            caption="../report/compare_networks.rst",
            category="Scores",
            subcategory="Tables",
            labels={"table": "variants, folds, seeds"},
        ),
    log:
        PATHS.log("compare_networks"),
    benchmark:
        PATHS.benchmark("compare_networks")
    localrule: True
    conda:
        CONDA
    params:
        networks=SHOWN.scored_networks(),
        sections=lambda wildcards, input: SHOWN.compared(PATHS.section_scores),
        variants=SHOWN.compared_variants(),
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
        tracks=by_name(RUNS.tracks_of),
    output:
        record=PATHS.ctc,
    log:
        PATHS.log("export_ctc", "model", "volume"),
    benchmark:
        PATHS.benchmark("export_ctc", "model", "volume")
    conda:
        CONDA
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


rule export_outlines:
    """Write the outlines of objects for QuPath and ImageJ."""
    input:
        segmentation=rules.finish_segmentation.output.record,
        ingest=rules.ingest_volume.output.record,
    output:
        record=PATHS.outlines,
    log:
        PATHS.log("export_outlines", "model", "volume"),
    benchmark:
        PATHS.benchmark("export_outlines", "model", "volume")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(120),
    params:
        formats=list(CONFIG.export_outlines),
        class_names=CONFIG.labels.class_names,
        are_frames=CONFIG.track.enabled,
        folder=subpath(output.record, parent=True),
        code=fingerprint("unetpipe.stages.export_outlines"),
    message:
        "Drawing the outlines of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/export_outlines.py"


rule collect_metrics:
    """Put all scores of the run into one table."""
    input:
        metrics=AWAITED.predicted(PATHS.metrics, *SCORED_ROLES),
        pooled=SHOWN.comparison(),
    output:
        table=report(
            PATHS.table,
            caption="../report/collect_metrics.rst",
            category="Scores",
            subcategory="Tables",
            labels={"table": "all scores"},
        ),
    log:
        PATHS.log("collect_metrics"),
    benchmark:
        PATHS.benchmark("collect_metrics")
    localrule: True
    conda:
        CONDA
    params:
        name=CONFIG.name,
        metrics=SHOWN.scored_files(),
        code=fingerprint("unetpipe.stages.collect_metrics"),
    message:
        "Collecting the scores"
    script:
        "../../scripts/collect_metrics.py"


rule collect_catalogue:
    """List every result of the run, former ones too: where, of what, how good."""
    input:
        segmentations=AWAITED.predicted(PATHS.segmentation),
        metrics=AWAITED.predicted(PATHS.metrics, *SCORED_ROLES),
        pyramids=lambda wildcards: RUNS.pyramids(),
        probabilities=lambda wildcards: AWAITED.probabilities(),
        pages=lambda wildcards: RUNS.pages_before_dropping(),
        whole=made_whole(PATHS.run_page, PATHS.catalogue, PATHS.packed_catalogue),
    output:
        table=report(
            PATHS.catalogue,
            caption="../report/collect_catalogue.rst",
            category="Reports",
            labels={"page": "catalogue of results"},
        ),
        packed=PATHS.packed_catalogue,
    log:
        PATHS.log("collect_catalogue"),
    benchmark:
        PATHS.benchmark("collect_catalogue")
    localrule: True
    conda:
        CONDA
    params:
        name=CONFIG.name,
        results=subpath(output.table, parent=True),
        wanted=SHOWN.wanted(),
        left_over=lambda wildcards: RUNS.left_over_results(),
        code=fingerprint("unetpipe.stages.collect_catalogue"),
    message:
        "Listing all results"
    script:
        "../../scripts/collect_catalogue.py"


rule report:
    """Put a network and what it made on one page that opens without a network."""
    input:
        ingests=by_name(AWAITED.reported_volumes),
        suggestions=by_name(SHOWN.suggestions_of),
        weight_maps=by_name(AWAITED.training, "weight_map"),
        training=by_name(SHOWN.training_records),
        segmentations=by_name(AWAITED.reported, "segmentation"),
        metrics=by_name(AWAITED.reported, "metrics"),
        measurements=by_name(AWAITED.reported, "measurements"),
        tracks=by_name(AWAITED.reported, "tracks"),
        whole=made_whole(PATHS.page, PATHS.page),
    output:
        page=report(
            PATHS.page,
            caption="../report/report.rst",
            category="Reports",
            labels={"page": "network {model}"},
        ),
    log:
        PATHS.log("report", "model"),
    benchmark:
        PATHS.benchmark("report", "model")
    localrule: True
    conda:
        CONDA
    params:
        config=by_name(SHOWN.configuration_of),
        # No input: where originals are gone, nothing is fetched anew for a page.
        manifest=PATHS.manifest,
        ingests=lambda wildcards, input: SHOWN.reported_volumes(wildcards.model),
        weight_maps=lambda wildcards, input: RUNS.training_records(
            "weight_map", wildcards.model
        ),
        training=by_name(SHOWN.training_files),
        predictions=by_name(SHOWN.prediction_files),
        code=fingerprint("unetpipe.stages.report"),
        templates=templates_version(),
    message:
        "Writing the report of {wildcards.model}"
    script:
        "../../scripts/report.py"


rule report_run:
    """Write the page to read first: several networks side by side, or the only one."""
    input:
        pages=expand(PATHS.page, model=[*NETWORKS, *ENSEMBLES]),
        ingests=AWAITED.ingests(),
        compared=SHOWN.comparison(),
        earlier=SHOWN.earlier_records(),
        whole=made_whole(PATHS.run_page, PATHS.run_page),
    output:
        page=report(
            PATHS.run_page,
            caption="../report/report_run.rst",
            category="Reports",
            labels={"page": "the page to read first"},
        ),
    log:
        PATHS.log("report_run"),
    benchmark:
        PATHS.benchmark("report_run")
    localrule: True
    conda:
        CONDA
    params:
        name=CONFIG.name,
        models=SHOWN.compared_models(),
        ingests=lambda wildcards, input: RUNS.ingests(),
        code=fingerprint("unetpipe.stages.report_run"),
        templates=templates_version(),
    message:
        "Writing the page to read first"
    script:
        "../../scripts/report_run.py"
