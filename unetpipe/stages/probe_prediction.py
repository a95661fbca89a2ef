"""Rule probe_prediction: find the tile that fits, by real forward passes."""

import logging
import time
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unetpipe.config import PredictionConfig
from unetpipe.errors import DataError, ResourceError
from unetpipe.network.devices import (
    activation_budget,
    choose_device,
    describe_device,
    has_arithmetic,
    is_out_of_memory,
)
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.tile_trials import (
    RegionPredictor,
    choose_batch,
    first_places,
    first_that_runs,
    flip_fractions,
    measure_tile,
)
from unetpipe.network.unet import UNet
from unetpipe.network.weights import load_network
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.records.probe import FlipPlace, Probe, TriedTile
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.machine import GIB, choose_threads, keep_freed_memory
from unetpipe.storage.volumes import open_volume, read_roi
from unetpipe.tiling.boxes import Roi, Zyx, whole_volume
from unetpipe.tiling.grids import PredictionGeometry, plan_geometry
from unetpipe.tiling.intensity import mean_and_std
from unetpipe.tiling.orientations import check_stride, choose_orientations
from unetpipe.tiling.quantised import threshold_or_default
from unetpipe.tiling.tile_choice import (
    CPU_MEMORY_GB,
    LARGEST_MAP_VALUES,
    TileCandidate,
    project_tile,
    rank_tiles,
)
from unetpipe.tiling.tile_selection import TileSelection

log = logging.getLogger(__name__)

NUM_RECORDED = 10


def probe_prediction(
    *,
    ingest: Path,
    model: Path,
    model_json: Path,
    prediction: PredictionConfig,
    record: Path,
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

    Raises
    ------
    ResourceError
        If no legal tile fits the memory; the message says what was tried.
    """
    began = time.monotonic()
    keep_freed_memory()
    volume, described = IngestedVolume.read(ingest), Model.read(model_json)
    device = choose_device(prediction.device)
    threads = choose_threads(prediction.threads)
    torch.set_num_threads(threads)
    network = load_network(model, described)
    _check_channels(volume, network)
    probe = _Probe(
        volume.shape,
        network,
        device,
        _possible_precision(prediction.precision, device),
        choose_orientations(prediction.average),
        prediction,
    )
    predictor, candidate, batch, values = probe.choose_tile()
    geometry = plan_geometry(probe.shape, candidate.stride, network.spec)
    places, flips = probe.compare(predictor, geometry, volume, described)
    Probe(
        **values,
        stride=candidate.stride,
        input_shape=geometry.input_shape,
        input_shapes=candidate.input_shapes,
        batch_tiles=batch,
        orientations=probe.orientations,
        threads=threads,
        device=describe_device(device),
        precision=probe.precision,
        is_compiled=predictor.is_compiled,
        tile_efficiency=geometry.tile_efficiency(network.spec),
        projected_efficiency=candidate.efficiency,
        projected_activation_bytes=candidate.tile_bytes,
        flop_per_tile=described.num_members
        * len(probe.orientations)
        * network.spec.flop(geometry.input_shape),
        flip_fraction=float(np.mean(flips)) if flips else 0.0,
        flip_places=tuple(
            FlipPlace(tile=place.start, flip_fraction=fraction)
            for place, fraction in zip(places, flips, strict=True)
        ),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    log.info(
        "tile keeps %s voxels of %s, %.3f s each, %.2f %% of labels flip in %s",
        candidate.stride,
        geometry.input_shape,
        values["seconds_per_tile"],
        100 * float(np.mean(flips)) if flips else 0.0,
        probe.precision,
    )


def _check_channels(volume: IngestedVolume, network: UNet | Ensemble) -> None:
    wanted, found = network.spec.in_channels, volume.num_channels
    if wanted != found:
        raise DataError(
            f"volume {volume.volume} has {found} channels, the network takes "
            f"{wanted}; choose as many with the column `channels` of the sheet, or use "
            "a network that was trained on such volumes"
        )


@dataclass(frozen=True, slots=True)
class _Probe:
    shape: Zyx
    network: UNet | Ensemble
    device: torch.device
    precision: str
    orientations: tuple[int, ...]
    prediction: PredictionConfig

    def choose_tile(self) -> tuple[TilePredictor, TileCandidate, int, dict[str, Any]]:
        """Return the predictor, the tile and batch that run, and what they took."""
        budget = self._budget_bytes()
        ranked = self._ranked()
        fitting = [c for c in ranked if c.tile_bytes <= budget]
        if self.prediction.stride is not None:
            fitting = ranked  # somebody knows better than the projection
        if not fitting:
            smallest = min(c.tile_bytes for c in ranked)
            raise ResourceError(
                f"no tile fits {budget / GIB:g} GiB of memory, the smallest needs "
                f"{smallest / GIB:.3g}; raise prediction.memory_gb or use a network "
                "of fewer base_channels"
            )
        predictor = self._predictor(is_compiled=self.prediction.compile)
        if predictor.is_compiled and not self._works(predictor, fitting[-1]):
            predictor = self._predictor()
        channels = self.network.spec.in_channels
        wanted = self.prediction.batch_tiles
        batches = (
            choose_batch(c, budget, self.device.type) if wanted == "auto" else wanted
            for c in fitting
        )
        candidate, batch, measured, failed = first_that_runs(
            zip(fitting, batches, strict=True),
            lambda c, n: measure_tile(predictor, c.stride, channels, n),
        )
        tried = {c.stride: "out of memory" for c in failed}
        tried[candidate.stride] = "chosen"
        kept = prod(self.shape) / (
            plan_geometry(self.shape, candidate.stride, self.network.spec).num_tiles
        )
        return (
            predictor,
            candidate,
            batch,
            {
                "seconds_per_tile": measured.seconds_per_tile,
                "voxels_per_second": kept / measured.seconds_per_tile,
                "peak_bytes": measured.peak_bytes,
                "memory_budget_bytes": int(budget),
                "candidates": tuple(
                    TriedTile(
                        **c.to_json(), outcome=tried.get(c.stride, _fits(c, budget))
                    )
                    for i, c in enumerate(ranked)
                    if i < NUM_RECORDED or c.stride in tried
                ),
            },
        )

    def compare(
        self,
        predictor: TilePredictor,
        geometry: PredictionGeometry,
        volume: IngestedVolume,
        model: Model,
    ) -> tuple[list[Roi], list[float]]:
        """Return places all over the volume, and the labels that flip there."""
        if self.precision == "fp32":
            return [], []
        image = open_volume(volume.image.store)
        rules = TileSelection(
            empty_value=self.prediction.empty_value,
            empty_fraction=self.prediction.empty_fraction,
        )
        box = self.prediction.roi
        within = Roi.between(*box) if box else whole_volume(self.shape)
        places = first_places(
            geometry, within, lambda tile: rules.is_empty(read_roi(image, tile))
        )
        mean, std = mean_and_std(volume.statistics)
        exact = TilePredictor(
            deepcopy(self.network), device=self.device, orientations=self.orientations
        )
        flips = flip_fractions(
            RegionPredictor(lambda roi: read_roi(image, roi), mean, std),
            (predictor, geometry),
            (exact, self._geometry_for_fp32(geometry)),
            places,
            threshold_or_default(model.chosen_threshold),
        )
        return places, flips

    def _budget_bytes(self) -> float:
        wanted = self.prediction.memory_gb
        if wanted != "auto":
            return wanted * GIB
        if self.device.type == "cpu":
            return CPU_MEMORY_GB * GIB
        return activation_budget(self.device)

    def _ranked(self, precision: str | None = None) -> list[TileCandidate]:
        spec, stride = self.network.spec, self.prediction.stride
        precision = precision or self.precision
        kind, wanted = self.device.type, self.prediction.batch_tiles
        least = 1 if wanted == "auto" else wanted
        if stride is None:
            return rank_tiles(
                self.shape,
                spec,
                precision=precision,
                device=kind,
                orientations=self.orientations,
                batch_tiles=least,
            )
        check_stride(stride, spec.pooling_grid, self.orientations)
        candidate = project_tile(
            stride,
            self.shape,
            spec,
            precision=precision,
            device=kind,
            orientations=self.orientations,
        )
        if kind == "cuda" and candidate.map_values * least > LARGEST_MAP_VALUES:
            log.warning(
                "prediction.stride %s makes feature maps of %.2g values, with "
                "prediction.batch_tiles %s; beyond 2^31 convolutions of a GPU are slow "
                "or want absurd memory: choose less",
                *(stride, candidate.map_values * least, self.prediction.batch_tiles),
            )
        return [candidate]

    def _geometry_for_fp32(self, geometry: PredictionGeometry) -> PredictionGeometry:
        """Return tiles for the comparison; fp32 may need smaller ones."""
        spec, budget = self.network.spec, self._budget_bytes()
        ranked = self._ranked("fp32")
        if any(c.stride == geometry.stride and c.tile_bytes <= budget for c in ranked):
            return geometry
        fitting = [c for c in ranked if c.tile_bytes <= budget] or ranked[-1:]
        return plan_geometry(self.shape, fitting[0].stride, spec)

    def _predictor(self, *, is_compiled: bool = False) -> TilePredictor:
        return TilePredictor(
            self.network,
            precision=self.precision,
            device=self.device,
            orientations=self.orientations,
            is_compiled=is_compiled,
            autotune=self.prediction.autotune,
        )

    def _works(self, predictor: TilePredictor, candidate: TileCandidate) -> bool:
        """Tell whether torch.compile works here, on a small tile."""
        try:
            measure_tile(predictor, candidate.stride, self.network.spec.in_channels, 1)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            log.warning(
                "torch.compile does not work here (%s: %s); predicting without",
                type(error).__name__,
                str(error).partition("\n")[0],
            )
            return False
        return True


def _possible_precision(wanted: str, device: torch.device) -> str:
    """Return the wanted precision, or fp32 where it would be emulated."""
    if has_arithmetic(device, wanted):
        return wanted
    log.warning(
        "%s has no %s arithmetic; emulating it would be slower than fp32, so this "
        "volume is predicted in fp32",
        describe_device(device),
        wanted,
    )
    return "fp32"


def _fits(candidate: TileCandidate, budget: float) -> str:
    return "not tried" if candidate.tile_bytes <= budget else "too large"
