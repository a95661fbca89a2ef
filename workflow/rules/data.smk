"""From the source to stored volumes.

IN   CONFIG.source: URL, local archive, local folder, or phantom
OUT  resources/<name>/manifest.json, results/<name>/volumes/<volume>/ingest.json
"""


rule download_dataset:
    """Fetch the originals, check them, unpack them safely."""
    output:
        manifest=PATHS.manifest,
    log:
        PATHS.log("download_dataset"),
    benchmark:
        PATHS.benchmark("download_dataset")
    localrule: True
    conda:
        CONDA
    params:
        source=lambda wildcards: CONFIG.source,  # braces in a path are no wildcards
        source_sha256=CONFIG.source_sha256,
        largest_download_gb=CONFIG.largest_download_gb,
        phantom=RUNS.section("phantom"),
        destination=subpath(output.manifest, parent=True),
        code=fingerprint("unetpipe.stages.download_dataset"),
    message:
        f"Fetching {RUNS.source_in_words}"
    script:
        "../../scripts/download_dataset.py"


rule ingest_part:
    """Store one part's layers of a volume's image; only with ingest.parts above 1."""
    input:
        manifest=rules.download_dataset.output.manifest,
    output:
        record=PATHS.ingest_part,
    log:
        PATHS.log("ingest_part", "volume", "part"),
    benchmark:
        PATHS.benchmark("ingest_part", "volume", "part")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        # The cells decide what is stored; a role of the row is a parameter of no run.
        cells=by_name(RUNS.cells_of_volume),
        row=lambda wildcards, input: RUNS.rows_of_volume(wildcards.volume)[0],
        originals=originals_of,
        ingest=RUNS.ingest_settings(),
        folder=PATHS.ingested_parts,
        code=fingerprint("unetpipe.stages.ingest_part"),
    message:
        "Storing part {wildcards.part} of volume {wildcards.volume}"
    script:
        "../../scripts/ingest_part.py"


rule ingest_volume:
    """Store one volume and its labels as chunked, sharded OME-Zarr."""
    input:
        manifest=rules.download_dataset.output.manifest,
        parts=RUNS.ingested_parts(),
        scales=by_name(AWAITED.scales),
    output:
        record=PATHS.ingest,
    log:
        PATHS.log("ingest_volume", "volume"),
    benchmark:
        PATHS.benchmark("ingest_volume", "volume")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(120),
    params:
        # These cells decide the stores. Sections and roles are only checked: a parameter
        # that is derived from the input makes no later run store the volume anew.
        cells=by_name(RUNS.cells_of_volume),
        rows=lambda wildcards, input: RUNS.rows_of_volume(wildcards.volume),
        scales=lambda wildcards, input: RUNS.scale_records(wildcards.volume),
        originals=originals_of,
        pixel_sha256=by_name(RUNS.pixel_sha256),
        ingest=RUNS.ingest_settings(),
        ndim=CONFIG.network.ndim,
        num_classes=CONFIG.network.num_classes,
        palette=CONFIG.labels.classes,
        image_store=PATHS.image_store,
        labels_store=PATHS.labels_store,
        with_pyramid=CONFIG.pyramid.parts == 1,
        parts_folder=PATHS.ingested_parts,
        code=fingerprint("unetpipe.stages.ingest_volume"),
    message:
        "Storing volume {wildcards.volume}"
    script:
        "../../scripts/ingest_volume.py"
