"""Rule export_ngff04: image, objects and probability as NGFF 0.4."""

import logging
import time
from pathlib import Path

from unetpipe.records.circumstances import Circumstances
from unetpipe.records.exports import NgffCopy, receipts_beside
from unetpipe.records.prediction import Prediction
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.files import hash_of
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.runtime.locks import claim
from unetpipe.storage.dropping import check_kept
from unetpipe.storage.ngff04 import choose_levels, copy_labels_group, copy_store

log = logging.getLogger(__name__)


def export_ngff04(
    *,
    ingest: Path,
    prediction: Path,
    segmentation: Path,
    levels: tuple[int, ...],
    folder: Path,
    record: Path,
) -> None:
    """Copy a volume and what was made of it for tools that read Zarr v2 only.

    ::

        ngff04-<id>/image.ome.zarr/labels/objects
        ngff04-<id>/probability.ome.zarr

    Parameters
    ----------
    ingest, prediction, segmentation : Path
        Records of the image, the probabilities and the objects.
    levels : tuple of int
        Resolution levels to copy; those that a store lacks are left out, at least its
        coarsest is copied.
    folder : Path
        Where ``ngff04-<id>`` is made, under a ``.partial`` name until it is whole:
        repeating an interrupted call goes on from there.
    record : Path
        Where to write ``ngff04.json``, last.
    """
    began = time.monotonic()
    volume, predicted = IngestedVolume.read(ingest), Prediction.read(prediction)
    segmented = Segmentation.read(segmentation)
    probability = predicted.outputs.probability.store
    check_kept(probability)
    sources = {
        "image.ome.zarr": (volume.image.store, hash_of(volume.image.content_sha256)),
        "image.ome.zarr/labels/objects": (
            segmented.objects,
            hash_of(segmented.identity.to_json()),
        ),
        "probability.ome.zarr": (probability, hash_of(predicted.content_sha256)),
    }
    identity = hash_of(
        {
            "sources": {name: digest for name, (_, digest) in sources.items()},
            "levels": levels,
            "code": code_fingerprint("unetpipe.storage.ngff04"),
        }
    )
    target = folder / f"ngff04-{identity[:8]}"
    receipts = receipts_beside(target)
    claimed = folder / f".{target.name}.claim"
    with claim(claimed, str(target)):
        if not target.exists():
            staging = folder / f"{target.name}.partial"
            for name, (store, digest) in sources.items():
                told = receipts / name
                copy_store(
                    store, staging / name, levels, receipts=told, identity=digest
                )
            copy_labels_group(staging / "image.ome.zarr", ("objects",))
            staging.rename(target)
    NgffCopy(
        volume=volume.volume,
        folder=target,
        stores=tuple(sorted(sources)),
        levels_copied={
            name: tuple(choose_levels(store, levels))
            for name, (store, _) in sources.items()
        },
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    log.info("NGFF 0.4 of %s in %s", volume.volume, target)
