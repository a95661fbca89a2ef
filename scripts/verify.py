"""Rule verify."""

from pathlib import Path

from unetpipe.config import VerifyConfig
from unetpipe.runtime.logs import log_to
from unetpipe.stages.verify import verify
from unetpipe.storage.verification import Commands

log_to(Path(snakemake.log[0]))
verify(
    volumes=list(map(Path, snakemake.params.volumes)),
    networks=snakemake.params.networks,
    predictions=snakemake.params.predictions,
    settings=VerifyConfig(**snakemake.params.settings),
    outdated=snakemake.params.outdated,
    commands=Commands(
        snakemake=snakemake.params.command,
        num_parts=snakemake.params.num_parts,
        shared=frozenset(map(Path, snakemake.params.shared)),
    ),
    record=Path(snakemake.params.record),
)
