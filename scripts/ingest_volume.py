"""Rule ingest_volume."""

from pathlib import Path

from unetpipe.ingestion.volume import VolumeOrder, VolumeStores
from unetpipe.runtime.logs import log_to
from unetpipe.stages.ingest_volume import ingest_volume

log_to(Path(snakemake.log[0]))
asked, record = snakemake.params, Path(snakemake.output.record)
names = ("rows", "ingest", "num_classes", "palette", "pixel_sha256")
order = {name: asked[name] for name in names}
ingest_volume(
    manifest=Path(snakemake.input.manifest),
    order=VolumeOrder(volume=snakemake.wildcards.volume, **order),
    stores=VolumeStores(
        Path(asked.image_store),
        Path(asked.labels_store),
        record.parent / "pyramids",
        with_pyramid=asked.with_pyramid,
        layers=Path(asked.parts_folder),
    ),
    parts=[Path(path) for path in snakemake.input.parts],
    record=record,
)
