"""From the source to stored volumes.

IN   CONFIG.source: URL, local archive, local folder, or phantom
OUT  resources/<name>/manifest.json, results/<name>/volumes/<volume>/ingest.json
"""


rule download_dataset:
    """Fetch the originals, check them, unpack them safely."""
    output:
        manifest=MANIFEST,
    log:
        f"{LOGS}/download_dataset.log",
    benchmark:
        f"{BENCHMARKS}/download_dataset.tsv"
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        source=lambda wildcards: CONFIG.source,  # braces in a path are no wildcards
        source_sha256=CONFIG.source_sha256,
        largest_download_gb=CONFIG.largest_download_gb,
        phantom=section("phantom"),
        destination=subpath(output.manifest, parent=True),
        code=fingerprint("unetpipe.stages.download_dataset"),
    message:
        "Fetching " + CONFIG.source.replace("{", "{{").replace("}", "}}")
    script:
        "../../scripts/download_dataset.py"


rule ingest_part:
    """Store one part's layers of a volume's image; only with ingest.parts above 1."""
    input:
        manifest=rules.download_dataset.output.manifest,
    output:
        record=f"{INGESTED}/parts/{{part}}.json",
    log:
        f"{LOGS}/ingest_part/{{volume}}/{{part}}.log",
    benchmark:
        f"{BENCHMARKS}/ingest_part/{{volume}}/{{part}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        row=lambda wildcards: rows_of_volume(wildcards)[0],
        originals=local_originals,
        ingest=section("ingest"),
        folder=INGESTED,
        code=fingerprint("unetpipe.stages.ingest_part"),
    message:
        "Storing part {wildcards.part} of volume {wildcards.volume}"
    script:
        "../../scripts/ingest_part.py"


rule ingest_volume:
    """Store one volume and its labels as chunked, sharded OME-Zarr."""
    input:
        manifest=rules.download_dataset.output.manifest,
        parts=ingested_parts(),
    output:
        record=f"{VOLUME}/ingest.json",
    log:
        f"{LOGS}/ingest_volume/{{volume}}.log",
    benchmark:
        f"{BENCHMARKS}/ingest_volume/{{volume}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(120),
    params:
        rows=rows_of_volume,
        originals=local_originals,
        pixel_sha256=lambda wildcards: CONFIG.pixel_sha256.get(wildcards.volume, {}),
        ingest=section("ingest"),
        num_classes=CONFIG.network.num_classes,
        palette=CONFIG.labels.classes,
        image_store=f"{VOLUME}/image.ome.zarr",
        labels_store=f"{VOLUME}/image.ome.zarr/labels/annotated",
        with_pyramid=CONFIG.pyramid.parts == 1,
        parts_folder=INGESTED,
        code=fingerprint("unetpipe.stages.ingest_volume"),
    message:
        "Storing volume {wildcards.volume}"
    script:
        "../../scripts/ingest_volume.py"
