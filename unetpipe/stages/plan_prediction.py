"""Rule plan_prediction: grids, parts, projections, and the empty store. No torch."""

import logging
import shutil
import time
from math import prod
from pathlib import Path
from typing import Any

from unetpipe.code_version import code_versions
from unetpipe.config import PredictionConfig
from unetpipe.errors import ConfigError, IdentityError
from unetpipe.geometry import as_zyx
from unetpipe.machine import GIB, check_free_disk
from unetpipe.records import circumstances, hash_of, read_record, write_record
from unetpipe.tiling import PredictionGeometry, plan_geometry
from unetpipe.unet_spec import UNetSpec
from unetpipe.volumes import create_volume, read_attributes

log = logging.getLogger(__name__)

# ASSUME: probabilities of a trained network compress at least this well.
LEAST_COMPRESSION = 1.5
# Interpreter, torch and the libraries, before any voxel is read.
BASE_BYTES = 0.6 * GIB


def plan_prediction(
    *,
    ingest: Path,
    model_json: Path,
    probe: Path,
    prediction: PredictionConfig,
    folder: Path,
    record: Path,
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

    Raises
    ------
    ConfigError
        If the precision flips more labels than allowed.
    ResourceError
        If the disk has too little room.
    IdentityError
        If a store of this name was made from another recipe.
    """
    began = time.monotonic()
    volume, description = read_record(ingest), read_record(model_json)
    probed = read_record(probe)
    spec = UNetSpec.from_json(description["spec"])
    _check_flips(probed, prediction)
    geometry = plan_geometry(
        as_zyx(volume["shape"]),
        as_zyx(probed["stride"]),
        spec,
        block_shards=prediction.block_shards,
    )
    identity = _identity(volume, description, probed, geometry)
    digest = hash_of(identity)
    home = folder / f"prediction-{digest[:8]}"
    outputs = _outputs(spec, home)
    projected = _project(geometry, spec, probed, prediction, len(outputs))
    if not home.exists():
        check_free_disk(folder, projected["disk_bytes"] / LEAST_COMPRESSION)
        _tell_differences(folder, identity)
        _create(home, outputs, geometry, volume, identity)
    elif read_attributes(Path(outputs["probability"]["store"])) != {
        "identity": identity
    }:
        raise IdentityError(
            f"{home} was made from another recipe; move it away and run again"
        )
    write_record(
        record,
        {
            "volume": volume["volume"],
            "ingest": str(ingest),
            "identity": identity,
            "identity_sha256": digest,
            "receipts": str(home / "receipts"),
            "outputs": outputs,
            "geometry": geometry.to_json(),
            "num_blocks": geometry.num_blocks,
            "num_parts": prediction.parts,
            "threads": probed["threads"],
            "precision": probed["precision"],
            "device": prediction.device,
            "flip_fraction": probed["flip_fraction"],
            "projected": projected,
            "circumstances": circumstances(seconds=time.monotonic() - began),
        },
    )
    log.info(
        "%d tiles in %d blocks and %d parts: about %.2f hours, %.2f GiB on disk",
        geometry.num_tiles,
        geometry.num_blocks,
        prediction.parts,
        projected["hours"],
        projected["disk_bytes"] / GIB,
    )


def _check_flips(probed: dict[str, Any], prediction: PredictionConfig) -> None:
    if probed["flip_fraction"] > prediction.largest_flip_fraction:
        raise ConfigError(
            f"prediction.precision is {probed['precision']}, which flips "
            f"{probed['flip_fraction']:.4f} of the labels against fp32, more than "
            f"prediction.largest_flip_fraction {prediction.largest_flip_fraction}; "
            "use fp32 or allow more"
        )


def _identity(
    volume: dict[str, Any],
    description: dict[str, Any],
    probed: dict[str, Any],
    geometry: PredictionGeometry,
) -> dict[str, Any]:
    """Return what decides the stored bits; blocks, parts and threads do not belong."""
    grids = geometry.to_json()
    grids.pop("block")
    return {
        "weights_sha256": description["weights_sha256"],
        "spec": description["spec"],
        "input_sha256": volume["image"]["content_sha256"],
        "statistics": [[c["mean"], c["std"]] for c in volume["statistics"]],
        "code": code_versions("unetpipe.inference"),
        "geometry": grids,
        "precision": probed["precision"],
    }


def _outputs(spec: UNetSpec, home: Path) -> dict[str, Any]:
    """Return the stores to fill: probabilities, and classes where there are many."""
    if spec.num_classes == 2:
        channels = ["foreground"]
    else:
        channels = [f"class {k}" for k in range(spec.num_classes)]
    outputs: dict[str, Any] = {
        "probability": {
            "store": str(home / "probability.ome.zarr"),
            "channels": channels,
        }
    }
    if spec.num_classes > 2:
        outputs["classes"] = {
            "store": str(home / "classes.ome.zarr"),
            "channels": None,
        }
    return outputs


def _project(
    geometry: PredictionGeometry,
    spec: UNetSpec,
    probed: dict[str, Any],
    prediction: PredictionConfig,
    num_outputs: int,
) -> dict[str, Any]:
    """Return projected memory of a part, disk, FLOP and hours (law 4)."""
    channels = 1 if spec.num_classes == 2 else spec.num_classes + num_outputs - 1
    grown = geometry.block_roi(0).grow(spec.halo)
    # Two blocks wait on each side of the one being computed; fp32 copies of a tile.
    block_bytes = 3 * (
        grown.num_voxels * spec.in_channels * 4
        + geometry.block_roi(0).num_voxels * channels
    )
    tile_bytes = 3 * 4 * prod(geometry.input_shape) * spec.in_channels
    activations = 2 * probed["projected_activation_bytes"]
    weights = 3 * 4 * spec.num_parameters
    seconds = geometry.num_tiles * probed["seconds_per_tile"]
    return {
        "peak_rss_bytes": int(
            BASE_BYTES + block_bytes + tile_bytes + activations + weights
        ),
        "disk_bytes": int(prod(geometry.volume_shape) * channels * 4 / 3),
        "flop": geometry.num_tiles * spec.flop(geometry.input_shape),
        "hours": seconds / 3600,
        "hours_per_part": seconds / 3600 / prediction.parts,
        "num_tiles": geometry.num_tiles,
        "tile_efficiency": geometry.tile_efficiency(spec),
    }


def _create(
    home: Path,
    outputs: dict[str, Any],
    geometry: PredictionGeometry,
    volume: dict[str, Any],
    identity: dict[str, Any],
) -> None:
    """Create the empty stores under another name, then give them theirs."""
    staging = home.with_name(f"{home.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    for output in outputs.values():
        create_volume(
            staging / Path(output["store"]).name,
            shape=geometry.volume_shape,
            dtype="uint8",
            chunk=geometry.chunk,
            shard=geometry.shard,
            voxel_size_nm=volume["voxel_size_nm"],
            channels=output["channels"] and tuple(output["channels"]),
            attributes={"identity": identity},
        )
    (staging / "receipts").mkdir()
    staging.rename(home)


def _tell_differences(folder: Path, identity: dict[str, Any]) -> None:
    """Log what differs from the predictions that are there already."""
    for other in sorted(folder.glob("prediction-????????")):
        theirs = read_attributes(other / "probability.ome.zarr").get("identity", {})
        differing = sorted(
            key for key in {*identity, *theirs} if identity.get(key) != theirs.get(key)
        )
        log.info(
            "%s stays as it is; this recipe differs in %s",
            other,
            ", ".join(differing),
        )
