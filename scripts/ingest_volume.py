"""Rule ingest_volume."""

from pathlib import Path

from unetpipe.config import IngestConfig
from unetpipe.runtime.logs import log_to
from unetpipe.stages.ingest_volume import ingest_volume

log_to(Path(snakemake.log[0]))
ingest_volume(
    manifest=Path(snakemake.input.manifest),
    volume=snakemake.wildcards.volume,
    rows=snakemake.params.rows,
    pixel_sha256=snakemake.params.pixel_sha256,
    ingest=IngestConfig(**snakemake.params.ingest),
    num_classes=snakemake.params.num_classes,
    palette=snakemake.params.palette,
    image_store=Path(snakemake.params.image_store),
    labels_store=Path(snakemake.params.labels_store),
    with_pyramid=snakemake.params.with_pyramid,
    parts=[Path(path) for path in snakemake.input.parts],
    parts_folder=Path(snakemake.params.parts_folder),
    record=Path(snakemake.output.record),
)
