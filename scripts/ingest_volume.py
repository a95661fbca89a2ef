"""Rule ingest_volume."""

from pathlib import Path

from unetpipe.ingestion.volume import VolumeOrder, VolumeStores
from unetpipe.records.asked import note_asked
from unetpipe.runtime.logs import log_to
from unetpipe.stages.ingest_volume import ingest_volume

log_to(Path(snakemake.log[0]))
asked, record = snakemake.params, Path(snakemake.output.record)
names = "rows", "ingest", "num_classes", "palette", "pixel_sha256", "ndim"
told = {name: asked[name] for name in names}
ingest_volume(
    manifest=Path(snakemake.input.manifest),
    order=VolumeOrder(volume=snakemake.wildcards.volume, **told),
    stores=VolumeStores(
        *map(Path, (asked.image_store, asked.labels_store)),
        record.parent / "pyramids",
        with_pyramid=asked.with_pyramid,
        layers=Path(asked.parts_folder),
    ),
    parts=[Path(path) for path in snakemake.input.parts],
    scales=[Path(path) for path in asked.scales],
    record=record,
)
note_asked(record, asked.asked)
