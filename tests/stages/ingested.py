"""The stage ``ingest_volume``, called with plain keywords."""

from pathlib import Path

from unetpipe.config import IngestConfig
from unetpipe.ingestion.volume import VolumeOrder, VolumeStores
from unetpipe.stages import ingest_volume as stage


def ingest_volume(
    *,
    manifest: Path,
    volume: str,
    rows: list,
    ingest: IngestConfig,
    num_classes: int,
    image_store: Path,
    labels_store: Path,
    record: Path,
    pixel_sha256: dict | None = None,
    palette: dict | None = None,
    with_pyramid: bool = True,
    parts: tuple = (),
    parts_folder: Path | None = None,
    scales: tuple = (),
    ndim: int = 2,
) -> None:
    stage.ingest_volume(
        manifest=manifest,
        order=VolumeOrder(
            volume=volume,
            rows=rows,
            ingest=ingest,
            num_classes=num_classes,
            palette=palette,
            ndim=ndim,
            pixel_sha256=pixel_sha256 or {},
        ),
        stores=VolumeStores(
            image=image_store,
            labels=labels_store,
            pyramids=record.parent / "pyramids",
            with_pyramid=with_pyramid,
            layers=parts_folder,
        ),
        parts=parts,
        scales=scales,
        record=record,
    )
