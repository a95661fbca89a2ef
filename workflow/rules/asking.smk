"""What is asked for by name, looks at what is there, and changes none of it.

IN   all records that exist
OUT  results/<name>/{verify.json,plan.json,plan.txt}

    snakemake verify             is everything as it was written?
    snakemake plan               how much work, memory, disk and time?
    snakemake status --nolock    how far is a run that goes on elsewhere?
    snakemake report_unfinished  which volumes failed, and what do the others look like?
    snakemake view --nolock      what does it look like, in neuroglancer and napari?
    snakemake propose_annotations    what should be annotated next?

None of them is part of `all`. They declare no output, and no benchmark, which counts as
one: so they run whenever they are asked.
"""


rule verify:
    """Read every shard, compute some blocks again, and tell what mends a difference."""
    log:
        PATHS.log("verify"),
    conda:
        CONDA
    threads: RUNS.threads("prediction")
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=1440,
    params:
        volumes=RUNS.ingests(),
        networks=SHOWN.verified_networks(),
        predictions=SHOWN.verified_predictions(),
        settings=RUNS.section("verify"),
        num_parts=CONFIG.prediction.parts,
        shared=lambda wildcards, input: AWAITED.shared_folders(),
        outdated=disagreements,
        command=typed_command(),
        record=PATHS.verified,
        code=fingerprint("unetpipe.stages.verify"),
    message:
        "Comparing what is stored with its records"
    script:
        "../../scripts/verify.py"


rule plan:
    """Tell what the run takes, and refuse what cannot fit on the disk."""
    log:
        PATHS.log("plan"),
    localrule: True
    conda:
        CONDA
    params:
        config=CONFIG.model_dump(mode="json"),
        volumes=SHOWN.described_volumes(),
        networks=SHOWN.described_networks(),
        jobs=lambda wildcards, input: records_of_jobs(SHOWN, STEPS),
        manifest=PATHS.manifest,
        results=PATHS.results,
        command=typed_command(),
        record=PATHS.run_plan,
        code=fingerprint("unetpipe.stages.plan"),
    message:
        "Planning the whole run"
    script:
        "../../scripts/plan.py"


rule propose_annotations:
    """Write the crops that would teach a network most, to be corrected in napari."""
    input:
        segmentations=AWAITED.predicted(PATHS.segmentation),
        probabilities=AWAITED.predicted(PATHS.probability),
    log:
        PATHS.log("propose_annotations"),
    conda:
        CONDA
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        volumes=SHOWN.proposed_volumes(),
        settings=RUNS.section("propose"),
        made_from=SHOWN.proposed_from(config),
        folder=PATHS.proposals,
        code=fingerprint("unetpipe.stages.propose_annotations"),
    message:
        "Choosing what to annotate next"
    script:
        "../../scripts/propose_annotations.py"


rule view:
    """Serve the run to viewers on this computer, and print how to open them."""
    log:
        PATHS.log("view"),
    localrule: True
    conda:
        CONDA
    params:
        ingests=expand(PATHS.ingest, volume=RUN.sheet.volumes),
        predictions=SHOWN.viewed_predictions(),
        port=CONFIG.view.port,
        run=CONFIG.name,
        code=fingerprint("unetpipe.stages.view"),
    message:
        "Serving what there is to see"
    script:
        "../../scripts/view.py"


rule report_unfinished:
    """Write pages and catalogue of what is done, what failed first."""
    log:
        PATHS.log("report_unfinished"),
    localrule: True
    conda:
        CONDA
    params:
        state=lambda wildcards, input: {
            "volumes": list(RUN.sheet.volumes),
            "networks": SHOWN.watched_networks(),
            "lots": STEPS.watched(),
            "results": PATHS.results,
            "logs": PATHS.logs,
            "outdated": disagreements(wildcards, input),
        },
        pages=lambda wildcards, input: SHOWN.pages(),
        run_page=lambda wildcards, input: {
            "name": CONFIG.name,
            "models": SHOWN.compared_models(),
            "ingests": RUNS.ingests(),
            "compared": SHOWN.comparison(),
            "output": PATHS.run_page,
        },
        catalogue=lambda wildcards, input: {
            "name": CONFIG.name,
            "results": PATHS.results,
            "wanted": SHOWN.wanted(),
            "table": PATHS.catalogue,
            "packed": PATHS.packed_catalogue,
        },
        sheet=CONFIG.volumes,
        code=fingerprint("unetpipe.stages.report_unfinished"),
    message:
        "Writing the pages of what is done"
    script:
        "../../scripts/report_unfinished.py"


rule status:
    """Tell how far a run is; with --nolock while it goes on."""
    log:
        PATHS.log("status"),
    localrule: True
    conda:
        CONDA
    params:
        volumes=list(RUN.sheet.volumes),
        outdated=disagreements,
        networks=SHOWN.watched_networks(),
        lots=lambda wildcards, input: STEPS.watched(),
        results=PATHS.results,
        logs=PATHS.logs,
        code=fingerprint("unetpipe.stages.status"),
    message:
        "Reading how far the run is"
    script:
        "../../scripts/status.py"
