"""Rule finish_segmentation."""

from pathlib import Path

from unetpipe.config import SegmentationConfig
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.segmentation.passes import SegmentationInputs
from unetpipe.stages.finish_segmentation import finish_segmentation

log_to(Path(snakemake.log[0]))
finish_segmentation(
    inputs=SegmentationInputs(
        prediction=Path(snakemake.input.prediction),
        model_json=Path(snakemake.input.model_json),
        ingest=Path(snakemake.input.ingest),
        settings=SegmentationConfig(**snakemake.params.segmentation),
        folder=Path(snakemake.params.folder),
    ),
    parts=[Path(part) for part in snakemake.input.parts],
    with_pyramid=snakemake.params.with_pyramid,
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
