"""From probability to objects, block by block.

IN   results/<name>/<model>/<volume>/prediction.json
OUT  results/<name>/<model>/<volume>/segmentation.json
     with measure.properties: results/<name>/<model>/<volume>/measurements.{json,csv,parquet},
     results/<name>/measurements.{csv,parquet}
     with track.enabled: results/<name>/<model>/<volume>/tracks.{json,csv,parquet},
     results/<name>/<model>/<volume>/tracked_objects.{csv,parquet}
"""


rule segment_part:
    """Number the components of one part's blocks."""
    input:
        prediction=rules.finish_prediction.output.record,
        probability=rules.finish_prediction.output.marker,
        model_json=rules.train_unet.output.model_json,
        ingest=rules.ingest_volume.output.record,
    output:
        record=PATHS.segmented_part,
    log:
        PATHS.log("segment_part", "model", "volume", "part"),
    benchmark:
        PATHS.benchmark("segment_part", "model", "volume", "part")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        segmentation=RUNS.section("segmentation"),
        folder=subpath(output.record, ancestor=2),
        code=fingerprint("unetpipe.stages.segment_part"),
    message:
        "Labelling part {wildcards.part} of {wildcards.volume} with {wildcards.model}"
    script:
        "../../scripts/segment_part.py"


rule merge_objects:
    """Find which components of all blocks are one object."""
    input:
        prediction=rules.finish_prediction.output.record,
        probability=rules.finish_prediction.output.marker,
        model_json=rules.train_unet.output.model_json,
        ingest=rules.ingest_volume.output.record,
        labelled=RUNS.parts(PATHS.segmented_part, "segmentation"),
    output:
        record=PATHS.merged,
    log:
        PATHS.log("merge_objects", "model", "volume"),
    benchmark:
        PATHS.benchmark("merge_objects", "model", "volume")
    conda:
        CONDA
    resources:
        mem_mb=grows(8000),
        runtime=grows(240),
    params:
        segmentation=RUNS.section("segmentation"),
        folder=subpath(output.record, ancestor=2),
        code=fingerprint("unetpipe.stages.merge_objects"),
    message:
        "Merging the objects of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/merge_objects.py"


rule relabel_part:
    """Write mask and objects of one part's blocks."""
    input:
        prediction=rules.finish_prediction.output.record,
        probability=rules.finish_prediction.output.marker,
        model_json=rules.train_unet.output.model_json,
        ingest=rules.ingest_volume.output.record,
        merged=rules.merge_objects.output.record,
    output:
        record=PATHS.relabelled_part,
    log:
        PATHS.log("relabel_part", "model", "volume", "part"),
    benchmark:
        PATHS.benchmark("relabel_part", "model", "volume", "part")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        segmentation=RUNS.section("segmentation"),
        folder=subpath(output.record, ancestor=2),
        code=fingerprint("unetpipe.stages.relabel_part"),
    message:
        "Writing the objects of part {wildcards.part} of {wildcards.volume}"
    script:
        "../../scripts/relabel_part.py"


rule finish_segmentation:
    """Verify the objects, add pyramids and table; with one part, do all steps."""
    input:
        prediction=rules.finish_prediction.output.record,
        probability=rules.finish_prediction.output.marker,
        model_json=rules.train_unet.output.model_json,
        ingest=rules.ingest_volume.output.record,
        parts=RUNS.steps_of_segmentation(),
    output:
        record=PATHS.segmentation,
    log:
        PATHS.log("finish_segmentation", "model", "volume"),
    benchmark:
        PATHS.benchmark("finish_segmentation", "model", "volume")
    conda:
        CONDA
    resources:
        mem_mb=grows(8000),
        runtime=grows(240),
    params:
        segmentation=RUNS.section("segmentation"),
        folder=subpath(output.record, parent=True),
        with_pyramid=CONFIG.pyramid.parts == 1,
        code=fingerprint("unetpipe.stages.finish_segmentation"),
    message:
        "Finishing the objects of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/finish_segmentation.py"


rule measure_part:
    """Measure the objects of one part's blocks."""
    input:
        segmentation=rules.finish_segmentation.output.record,
        ingest=rules.ingest_volume.output.record,
    output:
        record=PATHS.measured_part,
        table=PATHS.measured_part_table,
    log:
        PATHS.log("measure_part", "model", "volume", "part"),
    benchmark:
        PATHS.benchmark("measure_part", "model", "volume", "part")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        measure=RUNS.section("measure"),
        code=fingerprint("unetpipe.stages.measure_part"),
    message:
        "Measuring part {wildcards.part} of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/measure_part.py"


rule measure_objects:
    """Put the measurements of a volume into one table; with one part, take them."""
    input:
        segmentation=rules.finish_segmentation.output.record,
        ingest=rules.ingest_volume.output.record,
        parts=RUNS.measured_parts(),
    output:
        record=PATHS.measurements,
        table=PATHS.measured,
        packed=PATHS.packed_measured,
    log:
        PATHS.log("measure_objects", "model", "volume"),
    benchmark:
        PATHS.benchmark("measure_objects", "model", "volume")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        measure=RUNS.section("measure"),
        code=fingerprint("unetpipe.stages.measure_objects"),
    message:
        "Measuring the objects of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/measure_objects.py"


rule collect_measurements:
    """Put the measured objects of all volumes into one table."""
    input:
        records=AWAITED.measurements(),
    output:
        table=PATHS.all_measured,
        packed=PATHS.packed_all_measured,
        annotated=RUNS.annotated_tables(),
    log:
        PATHS.log("collect_measurements"),
    benchmark:
        PATHS.benchmark("collect_measurements")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(60),
    params:
        volumes=RUNS.measured_volumes(),
        code=fingerprint("unetpipe.stages.collect_measurements"),
    message:
        "Collecting the measurements"
    script:
        "../../scripts/collect_measurements.py"


rule track_objects:
    """Link the objects of a time series over its frames."""
    input:
        segmentation=rules.finish_segmentation.output.record,
    output:
        record=PATHS.tracks,
        tracks=PATHS.packed_tracks,
        objects=PATHS.tracked_objects,
    log:
        PATHS.log("track_objects", "model", "volume"),
    benchmark:
        PATHS.benchmark("track_objects", "model", "volume")
    conda:
        CONDA
    resources:
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        track=RUNS.section("track"),
        code=fingerprint("unetpipe.stages.track_objects"),
    message:
        "Linking the objects of {wildcards.volume} by {wildcards.model}"
    script:
        "../../scripts/track_objects.py"
