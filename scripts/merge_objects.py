"""Rule merge_objects."""

from pathlib import Path

from unetpipe.config import SegmentationConfig
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.segmentation.passes import SegmentationInputs
from unetpipe.stages.merge_objects import merge_objects

log_to(Path(snakemake.log[0]))
merge_objects(
    inputs=SegmentationInputs(
        prediction=Path(snakemake.input.prediction),
        model_json=Path(snakemake.input.model_json),
        ingest=Path(snakemake.input.ingest),
        settings=SegmentationConfig(**snakemake.params.segmentation),
        folder=Path(snakemake.params.folder),
    ),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
