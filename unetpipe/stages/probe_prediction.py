"""Rule probe_prediction: find the tile that fits, by real forward passes."""

import logging
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from unetpipe.config import PredictionConfig
from unetpipe.errors import DataError
from unetpipe.network.devices import choose_device, describe_device, has_arithmetic
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.flips import RegionPredictor, choose_flip_tiles, flip_fractions
from unetpipe.network.openvino_network import (
    OpenVinoUNet,
    describe_backend,
    on_openvino,
    openvino_precisions,
    read_quantised,
)
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.tile_trials import TileTrials
from unetpipe.network.unet import UNet
from unetpipe.network.weights import kept_network
from unetpipe.records.calibration import calibrated_hashes
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.records.probe import FlipPlace, Probe, TriedTile
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.machine import choose_threads, keep_freed_memory
from unetpipe.runtime.text import count_noun
from unetpipe.storage.volumes import open_volume, read_stored_roi
from unetpipe.tiling.boxes import Roi, whole_volume
from unetpipe.tiling.grids import TileGrids, plan_grids
from unetpipe.tiling.intensity import mean_and_std
from unetpipe.tiling.orientations import choose_orientations
from unetpipe.tiling.quantised import threshold_or_default
from unetpipe.tiling.skipping import TileSelection
from unetpipe.tiling.tile_size import TileCandidate

Served = tuple[UNet | Ensemble | OpenVinoUNet, torch.device, str]

log = logging.getLogger(__name__)


def probe_prediction(
    *,
    ingest: Path,
    model: Path,
    model_json: Path,
    prediction: PredictionConfig,
    record: Path,
    quantised: Sequence[Path] = (),
    calibrations: Sequence[Path] = (),
) -> None:
    """Choose the tile for a volume, run it, and compare labels with those of fp32.

    Parameters
    ----------
    ingest : Path
        ``ingest.json`` of the volume.
    model, model_json : Path
        Weights and description of the network.
    prediction : PredictionConfig
        Memory bound, precision, threads, orientations.
    record : Path
        Where to write ``probe.json``: stride, batch, threads, device, rate, peak
        memory, the candidates, and the fraction of labels that the precision flips.
    quantised, calibrations : sequence of Path
        With int8: what ``calibrate_network`` made of the network, or of each member.

    Raises
    ------
    ResourceError
        If no legal tile fits the memory; the message says what was tried.
    ConfigError
        If the extra ``openvino`` is wanted and not installed.
    IntegrityError
        If the calibration is of other weights.
    """
    began = time.monotonic()
    keep_freed_memory()
    volume, described = IngestedVolume.read(ingest), Model.read(model_json)
    threads = choose_threads(prediction.threads)
    torch.set_num_threads(threads)
    network = kept_network(model, described)
    _check_channels(volume, network)
    hashes = calibrated_hashes(calibrations, described)
    served = _serve(network, prediction, read_quantised(quantised, hashes))
    trials = _open_trials(volume, served, prediction)
    chosen = trials.choose_tile()
    candidate, measured = chosen.candidate, chosen.measured
    grids = plan_grids(volume.shape, candidate.stride, network.spec)
    flips = _compare(trials, (chosen.predictor, grids), network, volume, described)
    flip_fraction = float(np.mean([f.flip_fraction for f in flips] or [0.0]))
    Probe(
        seconds_per_tile=measured.seconds_per_tile,
        voxels_per_second=chosen.voxels_per_second,
        peak_bytes=measured.peak_bytes,
        memory_budget_bytes=chosen.budget_bytes,
        candidates=tuple(
            TriedTile(**tried.to_json(), outcome=outcome)
            for tried, outcome in chosen.outcomes
        ),
        stride=candidate.stride,
        input_shape=grids.input_shape,
        input_shapes=candidate.input_shapes,
        batch_tiles=chosen.batch,
        orientations=trials.orientations,
        threads=threads,
        device=describe_backend(
            trials.device, prediction.used_backend, trials.precision
        ),
        precision=trials.precision,
        backend=prediction.used_backend,
        calibration_sha256=hashes,
        is_compiled=chosen.predictor.is_compiled,
        tile_efficiency=grids.tile_efficiency(network.spec),
        projected_efficiency=candidate.efficiency,
        projected_activation_bytes=candidate.tile_bytes,
        flop_per_tile=described.num_members
        * len(trials.orientations)
        * network.spec.flop(grids.input_shape),
        flip_fraction=flip_fraction,
        flip_places=flips,
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    _tell(candidate, grids, measured.seconds_per_tile, flip_fraction, trials.precision)


def _tell(
    candidate: TileCandidate,
    grids: TileGrids,
    seconds: float,
    flips: float,
    precision: str,
) -> None:
    log.info(
        "tile keeps %s voxels of %s, %.3f s each, %.2f %% of labels flip in %s",
        candidate.stride,
        grids.input_shape,
        seconds,
        100 * flips,
        precision,
    )


def _compare(
    trials: TileTrials,
    reduced: tuple[TilePredictor, TileGrids],
    network: UNet | Ensemble,
    volume: IngestedVolume,
    model: Model,
) -> tuple[FlipPlace, ...]:
    """Return places all over the volume, and the labels that flip there."""
    if trials.precision == "fp32":
        return ()
    image = open_volume(volume.image.store)
    rules = TileSelection(
        empty_value=trials.prediction.empty_value,
        empty_fraction=trials.prediction.empty_fraction,
    )
    box = trials.prediction.roi
    within = Roi.between(*box) if box else whole_volume(trials.shape)
    grids = reduced[1]
    places = choose_flip_tiles(
        grids, within, lambda tile: rules.is_empty(read_stored_roi(image, tile))
    )
    mean, std = mean_and_std(volume.intensities)
    exact = TilePredictor(
        deepcopy(network), device=trials.device, orientations=trials.orientations
    )
    flips = flip_fractions(
        RegionPredictor(lambda roi: read_stored_roi(image, roi), mean, std),
        reduced,
        (exact, trials.grids_for_fp32(grids)),
        places,
        threshold_or_default(model.chosen_threshold),
    )
    return tuple(
        FlipPlace(tile=place.start, flip_fraction=fraction)
        for place, fraction in zip(places, flips, strict=True)
    )


def _serve(
    network: UNet | Ensemble, prediction: PredictionConfig, contents: list[bytes]
) -> Served:
    """Return the network as its backend computes it, where, and in what precision."""
    wanted = prediction.precision
    if not prediction.uses_openvino:
        device = choose_device(prediction.device)
        can = has_arithmetic(device, wanted)
        return network, device, _possible_precision(wanted, device, can=can)
    device = torch.device("cpu")
    can = wanted in openvino_precisions()
    precision = _possible_precision(wanted, device, can=can)
    return on_openvino(network, precision, contents), device, precision


def _open_trials(
    volume: IngestedVolume, served: Served, prediction: PredictionConfig
) -> TileTrials:
    return TileTrials(
        volume.shape,
        *served,
        choose_orientations(prediction.average),
        prediction,
    )


def _check_channels(volume: IngestedVolume, network: UNet | Ensemble) -> None:
    wanted, found = network.spec.in_channels, volume.num_channels
    if wanted != found:
        raise DataError(
            f"volume {volume.volume} has {count_noun(found, 'channel')}, the network "
            f"takes {wanted}; choose as many with the column channels of the sheet, of "
            "a picture whose red, green and blue are equal with the axes yxc, or use a "
            "network that was trained on such volumes"
        )


def _possible_precision(wanted: str, device: torch.device, *, can: bool) -> str:
    """Return the wanted precision, or fp32 where it would be emulated."""
    if can:
        return wanted
    log.warning(
        "%s has no %s arithmetic; emulating it would be slower than fp32, so this "
        "volume is predicted in fp32",
        describe_device(device),
        wanted,
    )
    return "fp32"
