"""For viewers: the coarser levels of large stores, in parts.

IN   results/<name>/<place>/<kind>.json with the stores: ingest, prediction, segmentation
OUT  results/<name>/<place>/pyramids/<kind>/<part>.json, .../<kind>-pyramid.json

With `pyramid.parts: 1` the rules that write these stores add their levels themselves.
With export_ngff04: results/<name>/<model>/<volume>/{ngff04.json,ngff04-<id>/}
With prediction.keep_probability: false: results/<name>/<model>/<volume>/dropped.json
"""

STORES = f"{RESULTS}/{{place}}/{{kind}}"
PYRAMIDS = f"{RESULTS}/{{place}}/pyramids/{{kind}}"


wildcard_constraints:
    place=r"[^/]+/[^/]+",
    kind="ingest|prediction|segmentation",


rule coarsen_part:
    """Write one part's blocks of the coarser levels."""
    input:
        source=f"{STORES}.json",
        probability=marker_of_kind,
    output:
        record=f"{PYRAMIDS}/{{part}}.json",
    log:
        f"{LOGS}/coarsen_part/{{place}}/{{kind}}/{{part}}.log",
    benchmark:
        f"{BENCHMARKS}/coarsen_part/{{place}}/{{kind}}/{{part}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        num_parts=CONFIG.pyramid.parts,
        code=fingerprint("unetpipe.stages.coarsen_part"),
    message:
        "Coarser levels of {wildcards.place}, {wildcards.kind}: part {wildcards.part}"
    script:
        "../../scripts/coarsen_part.py"


rule finish_pyramid:
    """Write the last levels and name all of them for viewers."""
    input:
        source=f"{STORES}.json",
        probability=marker_of_kind,
        parts=[f"{PYRAMIDS}/{part}.json" for part in range(CONFIG.pyramid.parts)],
    output:
        record=f"{STORES}-pyramid.json",
    log:
        f"{LOGS}/finish_pyramid/{{place}}/{{kind}}.log",
    benchmark:
        f"{BENCHMARKS}/finish_pyramid/{{place}}/{{kind}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        code=fingerprint("unetpipe.stages.finish_pyramid"),
    message:
        "Last levels of {wildcards.place}, {wildcards.kind}"
    script:
        "../../scripts/finish_pyramid.py"


rule export_ngff04:
    """Copy image, objects and probability for tools that read NGFF 0.4 only."""
    input:
        ingest=rules.ingest_volume.output.record,
        prediction=rules.finish_prediction.output.record,
        probability=rules.finish_prediction.output.marker,
        segmentation=rules.finish_segmentation.output.record,
        pyramids=pyramids_of_pair,
    output:
        record=f"{PREDICTED}/ngff04.json",
    log:
        f"{LOGS}/export_ngff04/{{model}}/{{volume}}.log",
    benchmark:
        f"{BENCHMARKS}/export_ngff04/{{model}}/{{volume}}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        levels=CONFIG.export_ngff04,
        folder=subpath(output.record, parent=True),
        code=fingerprint("unetpipe.stages.export_ngff04"),
    message:
        "NGFF 0.4 of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/export_ngff04.py"


rule drop_probability:
    """Delete a probability that was used: segmented, scored, exported, reported."""
    input:
        prediction=rules.finish_prediction.output.record,
        segmentation=rules.finish_segmentation.output.record,
        metrics=scores_of_pair,
        exported=exports_of_pair,
        pyramids=pyramids_of_pair,
        pages=ancient(pages_of_model),
    output:
        record=f"{PREDICTED}/dropped.json",
    log:
        f"{LOGS}/drop_probability/{{model}}/{{volume}}.log",
    benchmark:
        f"{BENCHMARKS}/drop_probability/{{model}}/{{volume}}.tsv"
    localrule: True
    conda:
        "../envs/unetpipe.yaml"
    params:
        marker=f"{PREDICTED}/probability.json",
        parts=[
            f"{PREDICTED}/parts/{part}.json" for part in range(CONFIG.prediction.parts)
        ],
        code=fingerprint("unetpipe.stages.drop_probability"),
    message:
        "Dropping the probability of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/drop_probability.py"
