"""Stage: bring one volume and its labels into chunked, sharded OME-Zarr."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unetpipe.config import IngestConfig
from unetpipe.config.sheet import Row
from unetpipe.ingestion.palette import choose_palette
from unetpipe.ingestion.volume import VolumeOrder, VolumeStores, bring_in
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.volume import IngestedPart, Manifest

log = logging.getLogger(__name__)


def ingest_volume(
    *,
    manifest: Path,
    volume: str,
    rows: list[dict[str, Any]],
    pixel_sha256: dict[str, str],
    ingest: IngestConfig,
    num_classes: int,
    palette: dict[str, int | None] | None = None,
    image_store: Path,
    labels_store: Path,
    record: Path,
    with_pyramid: bool = True,
    parts: Sequence[Path] = (),
    parts_folder: Path | None = None,
) -> None:
    """Check one volume, store its image and labels, and record what they are.

    Parameters
    ----------
    manifest : Path
        Record of ``download_dataset``: where the originals are.
    volume : str
        Name of the volume, for messages.
    rows : list of dict
        Its rows of the sheet.
    pixel_sha256 : dict
        Checksums to insist on, of the voxels of ``image`` and ``labels`` as the files
        hold them: section by section, (c, y, x) in C order, little-endian.
    ingest : IngestConfig
        Chunk, shard, and what to do with NaN.
    num_classes : int
        Ids of ``classes`` labels must be smaller.
    palette : dict or None
        Class of each colour or grey value of ``classes`` and ``binary`` labels; None:
        the values are the classes.
    image_store, labels_store : Path
        OME-Zarr stores; the second only if the volume has labels. They are built
        under a ``.partial`` name and renamed when both are whole. An image that is
        an OME-Zarr as our own (c, z, y, x; small chunks) is used where it is. Labels
        may lie inside the image's store (``image.ome.zarr/labels/annotated``), so that
        viewers show both; if that is used where it is, ``labels.ome.zarr`` beside it.
    record : Path
        Written last.
    with_pyramid : bool
        Write the coarser levels here. Else only their empty arrays are made, and
        ``coarsen_part`` and ``finish_pyramid`` fill them.
    parts : sequence of Path
        Records of ``ingest_part``, which have stored the image's layers; none: all of
        it is done here. Stores and record are the same.
    parts_folder : Path, optional
        Where those layers are; removed where they are no longer needed.

    Raises
    ------
    DataError
        Listing all problems of the volume that could be found at once.
    ResourceError
        If memory does not suffice.
    """
    found = Manifest.read(manifest)
    hashed = [file for part in parts for file in IngestedPart.read(part).files]
    sheet = [Row(**row) for row in rows]
    done = bring_in(
        VolumeOrder(
            volume=volume,
            rows=sheet,
            originals=found.model_copy(update={"files": (*found.files, *hashed)}),
            ingest=ingest,
            num_classes=num_classes,
            palette=choose_palette(palette, sheet[0].label_kind),
            pixel_sha256=pixel_sha256,
        ),
        VolumeStores(
            image=image_store,
            labels=labels_store,
            pyramids=record.parent / "pyramids",
            with_pyramid=with_pyramid,
            layers=parts_folder,
            has_layers=bool(parts),
        ),
    )
    for warning in done.warnings:
        log.warning("volume %s: %s", volume, warning)
    made = Circumstances.here()
    done.model_copy(update={"circumstances": made}).write(record)
