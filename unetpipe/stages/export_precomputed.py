"""Rule export_precomputed: image, objects and their surfaces for neuroglancer."""

import logging
import shutil
import time
from pathlib import Path

import numpy as np
from pyarrow import parquet

from unetpipe.config.viewing import PrecomputedConfig
from unetpipe.measurement.meshes import (
    is_mesh_written,
    mesh_mask,
    write_mesh,
    write_mesh_info,
)
from unetpipe.measurement.volume import BOX
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.exports import PrecomputedCopy
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.files import hash_of
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.runtime.locks import claim
from unetpipe.runtime.progress import track_progress
from unetpipe.storage.precomputed import MESH, write_precomputed
from unetpipe.storage.volumes import open_volume, read_stored_roi
from unetpipe.tiling.boxes import Roi, as_zyx

log = logging.getLogger(__name__)

CODE = ("unetpipe.storage.precomputed", "unetpipe.measurement.meshes")


def export_precomputed(
    *,
    ingest: Path,
    segmentation: Path,
    settings: PrecomputedConfig,
    folder: Path,
    record: Path,
) -> None:
    """Copy a volume and its objects as neuroglancer's precomputed volumes.

    ::

        precomputed-<id>/image/
        precomputed-<id>/objects/mesh/

    Parameters
    ----------
    ingest, segmentation : Path
        Records of the image and of the objects.
    settings : PrecomputedConfig
        Which objects have a mesh.
    folder : Path
        Where ``precomputed-<id>`` is made, under a ``.partial`` name until it is whole:
        repeating an interrupted call goes on from there.
    record : Path
        Where to write ``precomputed.json``, last.
    """
    began = time.monotonic()
    volume, made = IngestedVolume.read(ingest), Segmentation.read(segmentation)
    image = hash_of(volume.image.content_sha256)
    objects = hash_of(made.identity.to_json())
    size_nm = volume.voxel_size_nm
    boxes, too_large = _choose_boxes(made, settings)
    identity = hash_of(
        {
            "sources": [image, objects],
            "voxel_size_nm": size_nm,
            "meshes": sorted(boxes),
            "code": code_fingerprint(*CODE),
        }
    )
    target = folder / f"precomputed-{identity[:8]}"
    receipts = folder / f"{target.name}.receipts"
    with claim(folder / f".{target.name}.claim", str(target)):
        if not target.exists():
            staging = folder / f"{target.name}.partial"
            write_precomputed(
                volume.image.store,
                staging / "image",
                "image",
                voxel_size_nm=size_nm,
                receipts=receipts / "image",
                identity=image,
            )
            write_precomputed(
                made.objects,
                staging / "objects",
                "segmentation",
                voxel_size_nm=size_nm,
                receipts=receipts / "objects",
                identity=objects,
            )
            _write_meshes(made, boxes, size_nm, staging / "objects" / MESH)
            staging.rename(target)
        shutil.rmtree(receipts, ignore_errors=True)
    PrecomputedCopy(
        volume=volume.volume,
        folder=target,
        objects=objects,
        num_meshes=len(boxes),
        without_mesh=too_large,
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    log.info("precomputed volumes of %s in %s", volume.volume, target)


def _choose_boxes(
    made: Segmentation, settings: PrecomputedConfig
) -> tuple[dict[int, Roi], tuple[int, ...]]:
    """Return the boxes of the objects to mesh, and which of them are too large."""
    if not settings.meshes:
        return {}, ()
    columns = ["id", "voxels", *BOX]
    table = parquet.read_table(made.table["parquet"].path, columns=columns)
    ids, voxels = table["id"].to_numpy(), table["voxels"].to_numpy()
    if settings.meshes == "all":
        is_chosen = voxels >= settings.smallest_mesh_vox
    else:
        is_chosen = np.isin(ids, settings.meshes)
        if unknown := set(settings.meshes) - set(ids.tolist()):
            log.warning("there are no objects %s to mesh", sorted(unknown))
    found = np.stack([table[name].to_numpy() for name in BOX], axis=1)
    chosen = {
        int(number): Roi(as_zyx(row[0::2]), as_zyx(row[1::2]))
        for number, row in zip(ids[is_chosen], found[is_chosen].tolist(), strict=True)
    }
    most = settings.largest_mesh_vox
    too_large = tuple(n for n, box in chosen.items() if box.num_voxels > most)
    if too_large:
        log.warning(
            "%d objects have no mesh, because their boxes have more than %d voxels: %s",
            len(too_large),
            most,
            ", ".join(map(str, too_large[:10])),
        )
    return {n: box for n, box in chosen.items() if n not in too_large}, too_large


def _write_meshes(
    made: Segmentation,
    boxes: dict[int, Roi],
    voxel_size_nm: tuple[float, float, float],
    folder: Path,
) -> None:
    """Write the surface of each object that has none yet."""
    write_mesh_info(folder)
    ids = open_volume(made.objects)
    for number, box in track_progress(list(boxes.items()), folder.name, "object"):
        if not is_mesh_written(folder, number):
            mask = read_stored_roi(ids, box) == number
            write_mesh(folder, number, mesh_mask(mask, box.start, voxel_size_nm))
