"""Rule predict_part."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.predict_part import predict_part

log_to(Path(snakemake.log[0]))
predict_part(
    plan=Path(snakemake.input.plan),
    model=Path(snakemake.input.model),
    model_json=Path(snakemake.input.model_json),
    quantised=list(map(Path, snakemake.input.quantised)),
    part=int(snakemake.wildcards.part),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
