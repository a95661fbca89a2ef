"""What is asked for by name, looks at what is there, and changes none of it.

IN   all records that exist
OUT  results/<name>/{verify.json,plan.json,plan.txt}

    snakemake verify             is everything as it was written?
    snakemake plan               how much work, memory, disk and time?
    snakemake status --nolock    how far is a run that goes on elsewhere?

None of them is part of `all`. They declare no output, and no benchmark, which counts as
one: so they run whenever they are asked.
"""


rule verify:
    """Read every shard, compute some blocks again, and tell what mends a difference."""
    log:
        f"{LOGS}/verify.log",
    conda:
        "../envs/unetpipe.yaml"
    threads: threads_of("prediction")
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=1440,
    params:
        volumes=[f"{RESULTS}/volumes/{volume}/ingest.json" for volume in SHEET.volumes],
        networks=[
            {
                "model": f"{RESULTS}/{model}/model.safetensors",
                "model_json": f"{RESULTS}/{model}/model.json",
            }
            for model in (*NETWORKS, *ENSEMBLES)
        ],
        predictions=verified_predictions(),
        settings=section("verify"),
        num_parts=CONFIG.prediction.parts,
        command=own_command(),
        record=f"{RESULTS}/verify.json",
        code=fingerprint("unetpipe.stages.verify"),
    message:
        "Comparing what is stored with its records"
    script:
        "../../scripts/verify.py"


rule plan:
    """Tell what the run takes, and refuse what cannot fit on the disk."""
    log:
        f"{LOGS}/plan.log",
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        config=CONFIG.model_dump(mode="json"),
        volumes=described_volumes(),
        networks=described_networks(),
        manifest=MANIFEST,
        results=RESULTS,
        command=own_command(),
        record=f"{RESULTS}/plan.json",
        code=fingerprint("unetpipe.stages.plan"),
    message:
        "Planning the whole run"
    script:
        "../../scripts/plan.py"


rule status:
    """Tell how far a run is; with --nolock while it goes on."""
    log:
        f"{LOGS}/status.log",
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        volumes=list(SHEET.volumes),
        networks=[
            {
                "model": network["model"],
                "steps": network["training"]["steps"],
                "volumes": network["volumes"],
                "rule": network["rule"],
            }
            for network in described_networks()
        ],
        results=RESULTS,
        logs=LOGS,
        code=fingerprint("unetpipe.stages.status"),
    message:
        "Reading how far the run is"
    script:
        "../../scripts/status.py"
