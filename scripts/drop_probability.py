"""Rule drop_probability."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.drop_probability import drop_probability

log_to(Path(snakemake.log[0]))
drop_probability(
    prediction=Path(snakemake.input.prediction),
    marker=Path(snakemake.params.marker),
    parts=list(map(Path, snakemake.params.parts)),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
