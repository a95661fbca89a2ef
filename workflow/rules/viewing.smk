"""For viewers: the coarser levels of large stores, in parts.

IN   results/<name>/<place>/<kind>.json with the stores: ingest, prediction, segmentation
OUT  results/<name>/<place>/pyramids/<kind>/<part>.json, .../<kind>-pyramid.json

With `pyramid.parts: 1` the rules that write these stores add their levels themselves.
With export_ngff04: results/<name>/<model>/<volume>/{ngff04.json,ngff04-<id>/}
With export_precomputed: results/<name>/<model>/<volume>/precomputed{.json,-<id>/}
With prediction.keep_probability: false: results/<name>/<model>/<volume>/dropped.json
"""


rule coarsen_part:
    """Write one part's blocks of the coarser levels."""
    input:
        source=PATHS.pyramid_source,
        probability=by_name(RUNS.probability_of),
    output:
        record=PATHS.pyramid_part,
    log:
        PATHS.log("coarsen_part", "place", "kind", "part"),
    benchmark:
        PATHS.benchmark("coarsen_part", "place", "kind", "part")
    conda:
        CONDA
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
        source=PATHS.pyramid_source,
        probability=by_name(RUNS.probability_of),
        parts=RUNS.parts(PATHS.pyramid_part, "pyramid"),
    output:
        record=PATHS.pyramid,
    log:
        PATHS.log("finish_pyramid", "place", "kind"),
    benchmark:
        PATHS.benchmark("finish_pyramid", "place", "kind")
    conda:
        CONDA
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
        pyramids=by_name(RUNS.pyramids_of),
    output:
        record=PATHS.ngff04,
    log:
        PATHS.log("export_ngff04", "model", "volume"),
    benchmark:
        PATHS.benchmark("export_ngff04", "model", "volume")
    conda:
        CONDA
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


rule export_precomputed:
    """Copy image and objects for neuroglancer, with surfaces of chosen objects."""
    input:
        ingest=rules.ingest_volume.output.record,
        segmentation=rules.finish_segmentation.output.record,
        pyramids=by_name(RUNS.pyramids_of),
    output:
        record=PATHS.precomputed,
    log:
        PATHS.log("export_precomputed", "model", "volume"),
    benchmark:
        PATHS.benchmark("export_precomputed", "model", "volume")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        settings=RUNS.section("export_precomputed"),
        folder=subpath(output.record, parent=True),
        code=fingerprint("unetpipe.stages.export_precomputed"),
    message:
        "Precomputed volumes of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/export_precomputed.py"


rule drop_probability:
    """Delete a probability that was used: segmented, scored, exported, reported."""
    input:
        prediction=rules.finish_prediction.output.record,
        segmentation=rules.finish_segmentation.output.record,
        metrics=by_name(RUNS.scores_of),
        exported=by_name(RUNS.exports_of),
        pyramids=by_name(RUNS.pyramids_of),
        pages=ancient(by_name(RUNS.pages_of)),
    output:
        record=PATHS.dropped,
    log:
        PATHS.log("drop_probability", "model", "volume"),
    benchmark:
        PATHS.benchmark("drop_probability", "model", "volume")
    localrule: True
    conda:
        CONDA
    params:
        marker=PATHS.probability,
        parts=RUNS.parts(PATHS.predicted_part, "prediction"),
        code=fingerprint("unetpipe.stages.drop_probability"),
    message:
        "Dropping the probability of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/drop_probability.py"
