"""Rule finish_prediction."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.finish_prediction import finish_prediction

log_to(Path(snakemake.log[0]))
finish_prediction(
    plan=Path(snakemake.input.plan),
    parts=list(map(Path, snakemake.input.parts)),
    with_pyramid=snakemake.params.with_pyramid,
    marker=Path(snakemake.output.marker),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
