"""Rule plan_prediction: grids, parts, projections, and the empty store. No torch."""

import io
import logging
import time
from hashlib import sha256
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetpipe.config import PredictionConfig
from unetpipe.errors import ConfigError
from unetpipe.images.prediction_mask import read_mask
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.records.prediction import (
    Identity,
    PredictionPlan,
    Projected,
    TileRules,
)
from unetpipe.records.probe import Probe
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.runtime.machine import check_free_disk
from unetpipe.runtime.text import describe_quantity, describe_seconds
from unetpipe.storage.ngff import name_classes
from unetpipe.storage.predictions import PredictionHome
from unetpipe.tiling.boxes import grid_shape
from unetpipe.tiling.grids import TileGrids, plan_grids
from unetpipe.tiling.orientations import check_stride
from unetpipe.tiling.part_memory import project_part

log = logging.getLogger(__name__)

# ASSUME: probabilities of a trained network compress at least this well.
LEAST_COMPRESSION = 1.5


def plan_prediction(
    *,
    ingest: Path,
    model_json: Path,
    probe: Path,
    prediction: PredictionConfig,
    folder: Path,
    record: Path,
    class_names: tuple[str, ...] | None = None,
) -> None:
    """Fix everything that decides the stored bits, and create the store for them.

    The recipe's *identity* (weights, input, arithmetic modules, geometry, precision)
    names the store: another identity gets another store, an old one is never touched.

    Parameters
    ----------
    ingest, model_json, probe : Path
        Records of the volume, the network and the probe.
    prediction : PredictionConfig
        Precision bound, number of parts, shards of a block.
    folder : Path
        Where the store's folder ``prediction-<id>`` is created.
    record : Path
        Where to write ``plan.json``.
    class_names : tuple of str, optional
        Of all classes, class 0 first: what viewers call them.

    Raises
    ------
    ConfigError
        If the precision flips more labels than allowed, or the ROI lies outside.
    DataError
        If the mask is not there, does not fit, or holds nothing.
    ResourceError
        If the disk has too little room.
    IdentityError
        If a store of this name was made from another recipe.
    """
    began = time.monotonic()
    volume, model = IngestedVolume.read(ingest), Model.read(model_json)
    probed = Probe.read(probe)
    _check_flips(probed, prediction)
    grids = plan_grids(
        volume.shape, probed.stride, model.spec, block_shards=prediction.block_shards
    )
    check_stride(grids.stride, model.spec.pooling_grid, probed.orientations)
    kept = _read_mask(volume, prediction, grids)
    rules = _selection(volume, prediction, kept)
    home = PredictionHome(
        folder,
        grids,
        volume.voxel_size_nm,
        _identity(volume, model, probed, grids, rules),
        name_classes(class_names or _usual_names(model.spec.num_classes)),
    )
    num_tiles = _count_tiles(grids, rules, kept)
    projected = _project(grids, model, probed, volume, num_tiles, prediction.parts)
    _create(home, projected, kept)
    PredictionPlan(
        volume=volume.volume,
        ingest=ingest,
        identity=home.identity,
        identity_sha256=home.identity_sha256,
        receipts=home.receipts,
        outputs=home.outputs,
        geometry=grids,
        num_blocks=grids.num_blocks,
        num_parts=prediction.parts,
        threads=probed.threads,
        precision=probed.precision,
        device=prediction.device,
        autotune=prediction.autotune,
        input_shapes=probed.input_shapes,
        flip_fraction=probed.flip_fraction,
        projected=projected,
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    log.info(
        "%d of %d tiles in %d blocks and %d parts: about %s, %s on disk",
        num_tiles,
        grids.num_tiles,
        grids.num_blocks,
        prediction.parts,
        describe_seconds(3600 * projected.hours),
        describe_quantity(projected.disk_bytes, "iB", base=1024),
    )


def _create(
    home: PredictionHome, projected: Projected, kept: NDArray[np.bool_] | None
) -> None:
    """Create the stores, or what is missing of them."""
    if home.path.exists():
        home.restore()
    else:
        check_free_disk(home.folder, projected.disk_bytes / LEAST_COMPRESSION)
        home.tell_differences()
        home.create(None if kept is None else _as_npy(kept))
    home.name_channels()


def _check_flips(probed: Probe, prediction: PredictionConfig) -> None:
    if probed.flip_fraction > prediction.largest_flip_fraction:
        raise ConfigError(
            f"prediction.precision is {probed.precision}, which flips "
            f"{probed.flip_fraction:.4f} of the labels against fp32, more than "
            f"prediction.largest_flip_fraction {prediction.largest_flip_fraction}; "
            "use fp32 or allow more"
        )


def _identity(
    volume: IngestedVolume,
    model: Model,
    probed: Probe,
    grids: TileGrids,
    rules: TileRules,
) -> Identity:
    """Return what decides the stored bits; blocks, parts and threads do not belong."""
    sides = grids.to_json()
    sides.pop("block")
    return Identity(
        weights_sha256=model.weights_sha256,
        spec=model.spec.to_json(),
        input_sha256=volume.image.content_sha256,
        statistics=tuple((c.mean, c.std) for c in volume.statistics),
        code=code_fingerprint("unetpipe.network.predictor", "unetpipe.tiling.skipping"),
        geometry=sides,
        precision=probed.precision,
        batch_tiles=probed.batch_tiles,
        is_compiled=probed.is_compiled,
        orientations=probed.orientations,
        selection=rules,
    )


def _read_mask(
    volume: IngestedVolume, prediction: PredictionConfig, grids: TileGrids
) -> NDArray[np.bool_] | None:
    if prediction.mask is None:
        return None
    return read_mask(prediction.mask.replace("{volume}", volume.volume), grids)


def _selection(
    volume: IngestedVolume,
    prediction: PredictionConfig,
    kept: NDArray[np.bool_] | None,
) -> TileRules:
    """Return the rules that leave tiles out, as the recipe has them."""
    roi = None
    if prediction.roi is not None:
        roi = tuple(
            (start, min(stop, length))
            for (start, stop), length in zip(prediction.roi, volume.shape, strict=True)
        )
        if any(start >= stop for start, stop in roi):
            raise ConfigError(
                f"prediction.roi is {prediction.roi}, outside volume "
                f"{volume.volume} of {volume.shape} voxels; give a box inside it"
            )
    return TileRules(
        roi=roi,
        mask_sha256=None if kept is None else sha256(_as_npy(kept)).hexdigest(),
        empty_value=prediction.empty_value,
        empty_fraction=prediction.empty_fraction,
    )


def _count_tiles(
    grids: TileGrids, rules: TileRules, kept: NDArray[np.bool_] | None
) -> int:
    """Return how many tiles are predicted, as far as their place tells."""
    counts = grid_shape(grids.volume_shape, grids.stride)
    box = rules.roi or [(0, n) for n in grids.volume_shape]
    inside = tuple(
        slice(start // s, -(-stop // s))
        for (start, stop), s in zip(box, grids.stride, strict=True)
    )
    if kept is not None:
        return int(np.count_nonzero(kept[inside]))
    return prod(
        len(range(*part.indices(n))) for part, n in zip(inside, counts, strict=True)
    )


def _as_npy(kept: NDArray[np.bool_]) -> bytes:
    content = io.BytesIO()
    np.save(content, kept)
    return content.getvalue()


def _usual_names(num_classes: int) -> list[str]:
    if num_classes == 2:
        return ["background", "foreground"]
    return [f"class {k}" for k in range(num_classes)]


def _project(
    grids: TileGrids,
    model: Model,
    probed: Probe,
    volume: IngestedVolume,
    num_tiles: int,
    num_parts: int,
) -> Projected:
    """Return projected memory of a part, disk, FLOP and hours (law 4)."""
    spec = model.spec
    channels = 1 if spec.num_classes == 2 else spec.num_classes + 1
    seconds = num_tiles * probed.seconds_per_tile
    share = num_tiles / grids.num_tiles
    return Projected(
        peak_rss_bytes=project_part(
            grids,
            spec,
            device=probed.device.partition(" ")[0],
            itemsize=np.dtype(volume.dtype).itemsize,
            batch_tiles=probed.batch_tiles,
            orientations=probed.orientations,
            activation_bytes=probed.projected_activation_bytes,
            num_members=model.num_members,
        ),
        disk_bytes=int(share * prod(grids.volume_shape) * channels * 4 / 3),
        flop=num_tiles * probed.flop_per_tile,
        hours=seconds / 3600,
        hours_per_part=seconds / 3600 / num_parts,
        num_tiles=num_tiles,
        tile_efficiency=grids.tile_efficiency(spec),
    )
