"""The recipe of a prediction: what decides its bits, and what it will take.

From records and grids alone; nothing is opened.
"""

from math import prod
from typing import Any

import numpy as np

from unetpipe.records.model import Model
from unetpipe.records.prediction import Identity, Projected, TileRules
from unetpipe.records.probe import Probe
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.part_memory import project_part


def arithmetic_code(backend: str = "torch") -> str:
    """Return the fingerprint of all code that decides a stored bit."""
    modules = ["unetpipe.network.predictor", "unetpipe.tiling.skipping"]
    if backend == "openvino":
        modules.append("unetpipe.network.openvino_network")
    return code_fingerprint(*modules)


def identify_prediction(
    volume: IngestedVolume,
    model: Model,
    probe: Probe,
    grids: TileGrids,
    rules: TileRules,
) -> Identity:
    """Return what decides the stored bits; blocks, parts and threads do not belong."""
    sides = grids.to_json()
    sides.pop("block")
    other: dict[
        str, Any
    ] = {}  # stores of torch are named as if there were nothing else
    if probe.backend != "torch":
        other["backend"] = probe.backend
    if probe.calibration_sha256:
        other["calibration_sha256"] = probe.calibration_sha256
    return Identity(
        weights_sha256=model.weights_sha256,
        spec=model.spec.to_json(),
        input_sha256=volume.image.content_sha256,
        statistics=tuple((c.mean, c.std) for c in volume.intensities),
        code=arithmetic_code(probe.backend),
        geometry=sides,
        precision=probe.precision,
        batch_tiles=probe.batch_tiles,
        is_compiled=probe.is_compiled,
        orientations=probe.orientations,
        selection=rules,
        **other,
    )


def project_prediction(
    volume: IngestedVolume,
    model: Model,
    probe: Probe,
    grids: TileGrids,
    num_tiles: int,
    num_parts: int,
) -> Projected:
    """Return projected memory of a part, disk, FLOP and hours (law 4)."""
    spec = model.spec
    seconds = num_tiles * probe.seconds_per_tile
    share = num_tiles / grids.num_tiles
    return Projected(
        peak_rss_bytes=project_part(
            grids,
            spec,
            device=probe.device.partition(" ")[0],
            itemsize=np.dtype(volume.dtype).itemsize,
            batch_tiles=probe.batch_tiles,
            orientations=probe.orientations,
            activation_bytes=probe.projected_activation_bytes,
            num_members=model.num_members,
        ),
        disk_bytes=int(share * prod(grids.volume_shape) * spec.num_stored * 4 / 3),
        flop=num_tiles * probe.flop_per_tile,
        hours=seconds / 3600,
        hours_per_part=seconds / 3600 / num_parts,
        num_tiles=num_tiles,
        tile_efficiency=grids.tile_efficiency(spec),
    )
