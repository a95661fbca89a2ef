"""Rule join_networks."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.join_networks import join_networks

log_to(Path(snakemake.log[0]))
join_networks(
    names=snakemake.params.names,
    models=[Path(path) for path in snakemake.input.models],
    model_jsons=[Path(path) for path in snakemake.input.model_jsons],
    model=Path(snakemake.output.model),
    model_json=Path(snakemake.output.model_json),
)
note_asked(Path(snakemake.output.model_json), snakemake.params.asked)
