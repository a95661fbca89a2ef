"""Rule propose_annotations."""

from pathlib import Path

from unetpipe.config.proposals import ProposeConfig
from unetpipe.runtime.logs import log_to
from unetpipe.stages.propose_annotations import propose_annotations

log_to(Path(snakemake.log[0]))
propose_annotations(
    volumes=snakemake.params.volumes,
    settings=ProposeConfig(**snakemake.params.settings),
    made_from=snakemake.params.made_from,
    folder=Path(snakemake.params.folder),
)
