"""Rule adopt_network."""

from pathlib import Path

from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.adopt_network import adopt_network

log_to(Path(snakemake.log[0]))
adopt_network(
    folder=Path(snakemake.params.folder),
    num_classes=snakemake.params.num_classes,
    model=Path(snakemake.output.model),
    model_json=Path(snakemake.output.model_json),
    history=Path(snakemake.output.history),
    record=Path(snakemake.output.record),
)
note_asked(Path(snakemake.output.record), snakemake.params.asked)
