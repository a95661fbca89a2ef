"""Stage: bring one volume and its labels into chunked, sharded OME-Zarr."""

import logging
from collections.abc import Sequence
from pathlib import Path

from unetpipe.ingestion.volume import VolumeOrder, VolumeStores, bring_in
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.volume import IngestedPart, Manifest, Scale
from unetpipe.tiling.scale import common_voxel_size

log = logging.getLogger(__name__)


def ingest_volume(
    *,
    manifest: Path,
    order: VolumeOrder,
    stores: VolumeStores,
    record: Path,
    parts: Sequence[Path] = (),
    scales: Sequence[Path] = (),
) -> None:
    """Check one volume, store its image and labels, and record what they are.

    Parameters
    ----------
    manifest : Path
        Record of ``download_dataset``: where the originals are.
    order : VolumeOrder
        What the sheet and the configuration say of it.
    stores : VolumeStores
        Where it goes: built under ``.partial`` names, renamed when all is whole.
    record : Path
        Written last.
    parts : sequence of Path
        Records of ``ingest_part``, which have stored the image's layers; none: all of
        it is done here. Stores and record are the same.
    scales : sequence of Path
        With ``ingest.scale: match``: records of networks, or of the volumes that they
        learn from, which tell the wanted size of a voxel.

    Raises
    ------
    DataError
        Listing all problems of the volume that could be found at once.
    ResourceError
        If memory does not suffice.
    """
    found = Manifest.read(manifest)
    hashed = [file for part in parts for file in IngestedPart.read(part).files]
    originals = found.model_copy(update={"files": (*found.files, *hashed)})
    known = common_voxel_size(Scale.read(path).known_size_nm for path in scales)
    order = order.model_copy(update={"voxel_size_nm": known})
    done = bring_in(order, originals, stores, has_layers=bool(parts))
    for warning in done.warnings:
        log.warning("volume %s: %s", order.volume, warning)
    made = Circumstances.here()
    done.model_copy(update={"circumstances": made}).write(record)
