"""Rule track_objects."""

from pathlib import Path

from unetpipe.config.tracking import TrackConfig
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.track_objects import track_objects

log_to(Path(snakemake.log[0]))
track_objects(
    segmentation=Path(snakemake.input.segmentation),
    settings=TrackConfig(**snakemake.params.track),
    tracks=Path(snakemake.output.tracks),
    objects=Path(snakemake.output.objects),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
