"""Plan volumes of 10^12 and more voxels that are not there."""

from pathlib import Path
from unittest.mock import patch

from unetpipe.config import PredictionConfig
from unetpipe.runtime.files import process_circumstances, write_record
from unetpipe.stages.plan_prediction import plan_prediction
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.grids import plan_grids
from unetpipe.tiling.intensity import IntensityStatistics
from unetpipe.tiling.tile_size import rank_tiles
from unetpipe.tiling.unet_spec import UNetSpec

SHAPE: Zyx = (10_000, 10_000, 10_000)
LARGEST: Zyx = (100_000, 100_000, 100_000)
MEMORY_BYTES = 4 * 2**30


def plan_huge_volume(*, folder: Path, parts: int, shape: Zyx = SHAPE) -> None:
    """Choose a tile and plan, as far as this can be done without a voxel.

    Only the look at the free disk is left out: no disk here is large enough.
    """
    spec = UNetSpec()
    tile = next(t for t in rank_tiles(shape, spec) if t.tile_bytes < MEMORY_BYTES)
    stride = tile.stride
    geometry = plan_grids(shape, stride, spec)
    flop = spec.flop(geometry.input_shape)
    write_record(
        folder / "ingest.json",
        {
            "volume": "huge",
            "shape": list(shape),
            "num_channels": 1,
            "dtype": "uint8",
            "voxel_size_nm": [8.0, 8.0, 8.0],
            "image": {"store": str(folder / "none"), "content_sha256": "0" * 64},
            "statistics": [IntensityStatistics(1, 128, 17284, 0, 255).to_json()],
            "labels": None,
        },
    )
    description = {"spec": spec.to_json(), "weights_sha256": "0" * 64}
    write_record(folder / "model.json", description)
    write_record(
        folder / "probe.json",
        {
            "stride": list(stride),
            "input_shape": list(geometry.input_shape),
            "input_shapes": [list(geometry.input_shape)],
            "batch_tiles": 1,
            "is_compiled": False,
            "orientations": [0],
            "threads": 1,
            "device": "cpu",
            "precision": "bf16",
            "tile_efficiency": geometry.tile_efficiency(spec),
            "flop_per_tile": flop,
            "seconds_per_tile": flop / 3e11,
            "projected_activation_bytes": 4 * 2**30,
            "peak_bytes": 4 * 2**30,
            "flip_fraction": 0.0,
            "voxels_per_second": 1.0,
            "memory_budget_bytes": MEMORY_BYTES,
            "projected_efficiency": 1.0,
            "circumstances": process_circumstances(),
        },
    )
    with patch("unetpipe.storage.predictions.check_free_disk"):
        plan_prediction(
            ingest=folder / "ingest.json",
            model_json=folder / "model.json",
            probe=folder / "probe.json",
            prediction=PredictionConfig(parts=parts),
            folder=folder,
            record=folder / "plan.json",
        )
