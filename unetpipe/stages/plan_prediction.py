"""Rule plan_prediction: grids, parts, projections, and the empty store. No torch."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetpipe.config import PredictionConfig
from unetpipe.errors import ConfigError
from unetpipe.images.prediction_mask import read_mask
from unetpipe.records.calibration import Calibration
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.records.prediction import (
    PredictionPlan,
    Projected,
    TileRules,
)
from unetpipe.records.probe import Probe
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.text import describe_quantity, describe_seconds
from unetpipe.storage.ngff import Channel, ngff_class_names, usual_class_names
from unetpipe.storage.predictions import PredictionHome, hash_kept_tiles
from unetpipe.storage.recipes import identify_prediction, project_prediction
from unetpipe.targets.likeness import unlike_learnt
from unetpipe.tiling.grids import TileGrids, count_tiles, plan_grids
from unetpipe.tiling.orientations import check_stride
from unetpipe.tiling.unet_spec import UNetSpec

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
    calibrations: Sequence[Path] = (),
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
    calibrations : sequence of Path
        With int8: ``calibration.json`` of the network, or of the members.

    Raises
    ------
    ConfigError
        If the precision flips more labels than allowed, or int8 costs more of the
        score, or the ROI lies outside.
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
    _check_scores(calibrations, prediction)
    grids = plan_grids(
        volume.shape, probed.stride, model.spec, block_shards=prediction.block_shards
    )
    check_stride(grids.stride, model.spec.pooling_grid, probed.orientations)
    kept = _read_mask(volume, prediction, grids)
    rules = _rules(volume, prediction, kept)
    home = PredictionHome(
        folder,
        grids,
        volume.told_size_nm,
        identify_prediction(volume, model, probed, grids, rules),
        _channels(model.spec, class_names),
    )
    num_tiles = count_tiles(grids, rules.roi, kept)
    projected = project_prediction(
        volume, model, probed, grids, num_tiles, prediction.parts
    )
    home.prepare(kept, int(projected.disk_bytes / LEAST_COMPRESSION))
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
        device=prediction.used_device,
        autotune=prediction.autotune,
        input_shapes=probed.input_shapes,
        flip_fraction=probed.flip_fraction,
        projected=projected,
        warnings=_compare_with_learnt(model, volume),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    _tell(grids, projected, prediction.parts)


def _compare_with_learnt(model: Model, volume: IngestedVolume) -> tuple[str, ...]:
    """Say how the image is unlike those that the network has learnt from."""
    told = unlike_learnt(model.learnt_sections, volume)
    for warning in told:
        log.warning("volume %s: %s", volume.volume, warning)
    return told


def _tell(grids: TileGrids, projected: Projected, num_parts: int) -> None:
    log.info(
        "%d of %d tiles in %d blocks and %d parts: about %s, %s on disk",
        projected.num_tiles,
        grids.num_tiles,
        grids.num_blocks,
        num_parts,
        describe_seconds(3600 * projected.hours),
        describe_quantity(projected.disk_bytes, "iB", base=1024),
    )


def _channels(spec: UNetSpec, names: Sequence[str] | None) -> tuple[Channel, ...]:
    named = names or usual_class_names(spec.num_classes)
    return ngff_class_names(
        named, has_cores=spec.has_cores, offsets=spec.affinity_offsets
    )


def _check_flips(probed: Probe, prediction: PredictionConfig) -> None:
    if probed.flip_fraction > prediction.largest_flip_fraction:
        raise ConfigError(
            f"prediction.precision is {probed.precision}, which flips "
            f"{probed.flip_fraction:.4f} of the labels against fp32, more than "
            f"prediction.largest_flip_fraction {prediction.largest_flip_fraction}; "
            "use fp32 or allow more"
        )


def _check_scores(calibrations: Sequence[Path], prediction: PredictionConfig) -> None:
    """Raise ConfigError if a network scores worse in int8 than is allowed."""
    for path in calibrations:
        made = Calibration.read(path)
        if made.is_undefined:
            raise ConfigError(
                f"{path}: prediction.precision is int8, in which {made.metric} of the "
                "validation rows is undefined: use fp32 or bf16"
            )
        if made.score_loss and made.score_loss > prediction.largest_score_loss:
            raise ConfigError(
                f"{path}: prediction.precision is int8, in which {made.metric} of the "
                f"validation rows is {made.score_int8:.4f}, in fp32 "
                f"{made.score_fp32:.4f}; that costs more than "
                f"prediction.largest_score_loss {prediction.largest_score_loss}: use "
                "fp32 or bf16, or allow more"
            )


def _read_mask(
    volume: IngestedVolume, prediction: PredictionConfig, grids: TileGrids
) -> NDArray[np.bool_] | None:
    if prediction.mask is None:
        return None
    return read_mask(prediction.mask.replace("{volume}", volume.volume), grids)


def _rules(
    volume: IngestedVolume,
    prediction: PredictionConfig,
    kept: NDArray[np.bool_] | None,
) -> TileRules:
    """Return the rules that leave tiles out, as the recipe has them."""
    return TileRules(
        roi=prediction.roi_inside(volume.shape, volume.volume),
        mask_sha256=None if kept is None else hash_kept_tiles(kept),
        empty_value=prediction.empty_value,
        empty_fraction=prediction.empty_fraction,
    )
