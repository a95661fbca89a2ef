"""What is asked for by name, looks at what is there, and changes none of it.

IN   all records that exist
OUT  results/<name>/{verify,forecast}.json

    snakemake verify             is everything as it was written?
    snakemake plan               how much work, memory, disk and time?
    snakemake status --nolock    how far is a run that goes on elsewhere?

None of them is part of `all`; having no declared outputs, they run whenever asked.
"""


rule verify:
    """Read every shard, compute some blocks again, and tell what mends a difference."""
    log:
        f"{LOGS}/verify.log",
    benchmark:
        f"{BENCHMARKS}/verify.tsv"
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
            for model in NETWORKS
        ],
        predictions=verified_predictions(),
        settings=section("verify"),
        num_parts=CONFIG.prediction.parts,
        command=own_command(),
        record=f"{RESULTS}/verify.json",
        code=code_versions("unetpipe.stages.verify"),
    message:
        "Comparing what is stored with its records"
    script:
        "../../scripts/verify.py"
