"""Rule download_dataset."""

from pathlib import Path

from unetpipe.config import PhantomConfig
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.download_dataset import download_dataset

log_to(Path(snakemake.log[0]))
download_dataset(
    source=snakemake.params.source,
    source_sha256=snakemake.params.source_sha256,
    largest_download_gb=snakemake.params.largest_download_gb,
    phantom=PhantomConfig(**snakemake.params.phantom),
    destination=Path(snakemake.params.destination),
    manifest=Path(snakemake.output.manifest),
)
note_asked(Path(snakemake.output.manifest), snakemake.params.asked)
