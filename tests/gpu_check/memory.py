"""Buffers on their way, memory that does not suffice, tiles that 32 bits can count."""

from collections import deque
from math import prod

import numpy as np
import torch

from tests.gpu_check.checked import Checked
from unetpipe.network.devices import activation_budget, is_out_of_memory
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.tile_trials import first_that_runs, measure_tile
from unetpipe.network.transfer import choose_lane
from unetpipe.network.unet import UNet
from unetpipe.runtime.machine import GIB
from unetpipe.tiling.tile_size import LARGEST_MAP_VALUES, rank_tiles
from unetpipe.tiling.unet_spec import UNetSpec

STORED = (np.uint8, np.int8, np.uint16, np.int16, np.float16, np.float32, np.bool_)
MESSAGES = (
    *("CUDA out of memory.", "CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator: can't allocate memory"),
    "GET was unable to find an engine to execute this computation",
)


def transfer(checked: Checked) -> None:
    """No buffer is used again while a copy is under way; all stored types arrive."""
    lane = choose_lane(checked.device)
    rng = np.random.default_rng(0)
    side, num_wrong = checked.size(quick=64, real=1500), 0
    under_way: deque[tuple[int, object]] = deque()
    count = checked.size(quick=10, real=120)
    for number in range(count):
        tiles = lane.empty((2, 1, 1, side, side), np.dtype(np.uint8))
        tiles.numpy()[...] = number % 251
        arrived = lane.upload(tiles)
        if checked.is_cuda and number % 3 == 0:
            torch.cuda._sleep(int(rng.integers(1, 40)) * 100_000)
        made = (arrived + 1)[..., ::2]  # not contiguous: the copy needs a temporary
        under_way.append((number, lane.download(made)))
        del tiles, arrived, made
        while len(under_way) > (lane.lag if number < count - 1 else 0):
            sent, wait = under_way.popleft()
            num_wrong += int((wait()[0] != sent % 251 + 1).any())
    checked.check("no buffer is used again too early", num_wrong == 0, num_wrong)
    refused = []
    for dtype in STORED:
        tiles = lane.empty((1, 1, 1, 4, 4), np.dtype(dtype))
        tiles.numpy()[...] = 1
        if not bool((lane.upload(tiles).float() == 1).all()):
            refused.append(np.dtype(dtype).name)
    checked.check("voxels of all stored types arrive", not refused, refused)


def out_of_memory(checked: Checked) -> None:
    """A smaller tile is found where a larger one does not fit."""
    missed = [text for text in MESSAGES if not is_out_of_memory(RuntimeError(text))]
    checked.check("all ways to run out of memory are known", not missed, missed)
    if not checked.is_cuda:
        return
    total = torch.cuda.get_device_properties(checked.device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2 * GIB / total))
    try:
        spec = UNetSpec()
        predictor = TilePredictor(UNet(spec), precision="bf16", device=checked.device)
        ranked = rank_tiles((1, 8192, 8192), spec, precision="bf16", device="cuda")
        found, _, _, failed = first_that_runs(
            ((candidate, 1) for candidate in ranked),
            lambda candidate, batch: measure_tile(
                predictor, candidate.stride, 1, batch
            ),
        )
        checked.check(
            "in 2 GiB a smaller tile is found",
            bool(failed),
            f"{len(failed)} did not fit, then {found.stride}",
        )
    except Exception as error:
        checked.failed("in 2 GiB a smaller tile is found", error)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def volumetric(checked: Checked) -> None:
    """The tile that is planned for a large volume runs, in the memory projected."""
    spec = UNetSpec(
        base_channels=checked.size(quick=2, real=32),
        ndim=3,
        depth=checked.size(quick=1, real=3),
    )
    shape = checked.size(quick=(16, 32, 32), real=(512, 1024, 1024))
    budget = activation_budget(checked.device) if checked.is_cuda else 16 * GIB
    ranked = rank_tiles(shape, spec, precision="bf16", device="cuda")
    planned = next(tile for tile in ranked if tile.tile_bytes <= budget)
    checked.check(
        "32 bits count every feature map of the tile",
        planned.map_values <= LARGEST_MAP_VALUES,
        f"{planned.stride}: {planned.map_values / 2**31:.2f} of 2^31",
    )
    if not checked.is_cuda:
        return
    predictor = TilePredictor(UNet(spec), precision="bf16", device=checked.device)
    measured = measure_tile(predictor, planned.stride, 1, 1)
    seconds, peak = measured.seconds_per_tile, measured.peak_bytes
    checked.tell(
        f"{planned.stride}: {prod(planned.stride) / seconds / 1e6:.0f} Mvoxel/s, "
        f"{spec.flop(planned.input_shapes[0]) / seconds / 1e12:.0f} TFLOP/s",
        voxels_per_second=prod(planned.stride) / seconds,
    )
    checked.check(
        "its peak is below the projection",
        peak <= planned.tile_bytes + 2 * GIB,
        f"{peak / GIB:.1f} of {planned.tile_bytes / GIB:.1f} GiB",
    )
