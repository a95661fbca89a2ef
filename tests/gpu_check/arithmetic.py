"""The same bits in any batch, process and memory; the CPU's values; no seams."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import torch
from torch import Tensor

from tests.gpu_check.checked import MEAN, STD, Checked, Setup, setups
from unetpipe.network.devices import is_out_of_memory
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.stages.verify import TOLERANCE
from unetpipe.tiling.boxes import whole_volume
from unetpipe.tiling.grids import plan_grids
from unetpipe.tiling.unet_spec import UNetSpec

# Relative error of a convolution in fp32, of which TF32 makes about 3e-4.
FP32_ERROR = 2e-6


def bits(checked: Checked) -> None:
    """A tile's bits depend on no place in a batch, no neighbour and no free memory."""
    digests = {}
    precisions = checked.size(quick=("fp32",), real=("fp32", "bf16", "fp16"))
    for setup in setups(checked):
        for precision in precisions:
            name = f"{setup.name}, {precision}"
            predictor = _predictor(checked, setup, precision)
            tiles = _tiles(checked, predictor, setup)
            digests[name] = _check_batches(checked, name, predictor, setup, tiles)
            if checked.is_cuda:
                _check_little_memory(checked, name, predictor, setup, tiles)
            if precision == "fp32":
                _check_against_cpu(checked, setup, predictor, tiles)
    checked.tell("hashes of predicted tiles", **digests)


def other_process(checked: Checked) -> None:
    """Another process computes the bits of this one."""
    if not any(line.text.startswith("hashes of") for line in checked.lines):
        bits(checked)
    mine = [line.values for line in checked.lines if line.text.startswith("hashes of")]
    output = checked.settings.folder / "other.json"
    options = ["--device", checked.device.type, "--output", str(output)]
    if checked.settings.is_quick:
        options.append("--quick")
    subprocess.run(
        [sys.executable, "-m", "tests.gpu_check", "bits", *options],
        capture_output=True,
        timeout=240,
        check=False,
    )
    lines = json.loads(output.read_text())
    theirs = [line["values"] for line in lines if line["text"].startswith("hashes of")]
    checked.check("another process computes the same bits", mine == theirs)


def tf32(checked: Checked) -> None:
    """Convolutions in fp32 are convolutions in fp32."""
    spec = UNetSpec(base_channels=checked.size(quick=8, real=64), depth=1)
    predictor = TilePredictor(UNet(spec), device=checked.device)
    width = spec.channels(0)
    layer = torch.nn.Conv2d(width, width, 3, device=checked.device)
    maps = torch.randn(1, width, 96, 96, device=checked.device)
    with torch.no_grad(), predictor._convolutions():
        found = layer(maps)
        exact = torch.nn.functional.conv2d(
            maps.double(), layer.weight.double(), layer.bias.double()
        )
    error = float((found - exact).abs().max() / exact.abs().max())
    checked.check(
        "fp32 takes no TF32", error < FP32_ERROR, f"relative error {error:.1e}"
    )


def tiling(checked: Checked) -> None:
    """Tiles join without a seam: other tiles give the same within rounding."""
    spec = UNetSpec(
        base_channels=checked.size(quick=2, real=32),
        depth=checked.size(quick=2, real=4),
    )
    torch.manual_seed(0)
    network = UNet(spec)
    shape = (1, *checked.size(quick=(64, 80), real=(1500, 1700)))
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    mean, std = (np.array([value], np.float32) for value in (MEAN, STD))
    sides = (
        checked.size(quick=(64, 80), real=(1504, 1712)),
        checked.size(quick=(32, 48), real=(512, 256)),
    )
    for precision in checked.size(quick=("fp32",), real=("fp32", "bf16")):
        predictor = TilePredictor(network, precision=precision, device=checked.device)
        whole, tiled = (
            predictor.predict_block(
                image,
                (0, 0, 0),
                whole_volume(shape),
                plan_grids(shape, (1, *side), spec),
                mean=mean,
                std=std,
            )[0].astype(int)
            for side in sides
        )
        off, flips = np.abs(whole - tiled), ((whole > 127) != (tiled > 127)).sum()
        checked.check(
            f"tiles of {sides[1]} as one pass, {precision}",
            TOLERANCE[precision].allows(off),
            f"off by up to {off.max()} of 255; {flips} of {whole.size} labels flip",
        )


def compiled(checked: Checked) -> None:
    """Compiled networks repeat their bits, in any place of a batch."""
    for setup in checked.size(quick=setups(checked)[:0], real=setups(checked)):
        averaged = (0, 1) if setup.num_members > 1 else setup.orientations
        for orientations in {setup.orientations, averaged}:
            name = f"{setup.name}, {len(orientations)} orientations, compiled"
            torch._dynamo.reset()
            try:
                predictor = TilePredictor(
                    setup.network(),
                    precision="bf16",
                    device=checked.device,
                    orientations=orientations,
                    is_compiled=True,
                )
                tiles = _tiles(checked, predictor, setup)
                _check_batches(checked, name, predictor, setup, tiles)
            except Exception as error:
                checked.failed(name, error)


def _predictor(checked: Checked, setup: Setup, precision: str) -> TilePredictor:
    return TilePredictor(
        setup.network(),
        precision=precision,
        device=checked.device,
        orientations=setup.orientations,
    )


def _tiles(checked: Checked, predictor: TilePredictor, setup: Setup) -> Tensor:
    count = checked.size(quick=3, real=8)
    seeded = torch.Generator().manual_seed(1)
    shape = (count, 1, *predictor.tile_shape(setup.stride))
    tiles = torch.randint(0, 256, shape, generator=seeded, dtype=torch.uint8)
    return tiles.to(checked.device)


def _stored(
    checked: Checked, predictor: TilePredictor, setup: Setup, tiles: Tensor
) -> Tensor:
    stored, _ = predictor.quantised(tiles, setup.stride, **checked.statistics())
    return stored.cpu()


def _check_batches(
    checked: Checked,
    name: str,
    predictor: TilePredictor,
    setup: Setup,
    tiles: Tensor,
) -> str:
    """Check repeats, places and neighbours; return the hash of what was predicted."""

    def run(batch: Tensor) -> Tensor:
        return _stored(checked, predictor, setup, batch)

    expected = run(tiles)
    repeats = all(torch.equal(expected, run(tiles)) for _ in range(3))
    checked.check(f"{name}: the same bits again", repeats)
    moved = all(
        torch.equal(expected.roll(place, 0), run(tiles.roll(place, 0)))
        for place in range(1, len(tiles))
    )
    checked.check(f"{name}: at any place of a batch", moved)
    alone = tiles.clone()
    alone[1:] = 0
    checked.check(
        f"{name}: beside empty tiles", torch.equal(expected[0], run(alone)[0])
    )
    return hashlib.sha256(expected.numpy().tobytes()).hexdigest()[:16]


def _check_little_memory(
    checked: Checked,
    name: str,
    predictor: TilePredictor,
    setup: Setup,
    tiles: Tensor,
) -> None:
    """Where a workspace does not fit: the same bits, or an error that is known."""
    expected = _stored(checked, predictor, setup, tiles)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _stored(checked, predictor, setup, tiles)
    needed = torch.cuda.max_memory_allocated() - before
    for share in (1.0, 0.9, 0.75):
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        room = max(0, free - int(share * needed) - 2**26)
        ballast = torch.empty(room, dtype=torch.uint8, device=checked.device)
        what = f"{name}: with {share:.2f} of the memory that it took"
        try:
            found = _stored(checked, predictor, setup, tiles)
            checked.check(f"{what} the same bits", torch.equal(expected, found))
        except RuntimeError as error:
            said = str(error).splitlines()[0][:100]
            checked.check(f"{what} a known error", is_out_of_memory(error), said)
        del ballast
    torch.cuda.empty_cache()


def _check_against_cpu(
    checked: Checked, setup: Setup, predictor: TilePredictor, tiles: Tensor
) -> None:
    there = TilePredictor(setup.network(), orientations=setup.orientations)
    grey = {key: value.cpu() for key, value in checked.statistics().items()}
    expected, _ = there.quantised(tiles[:1].cpu(), setup.stride, **grey)
    expected, _ = there.split(expected.numpy())
    found, _ = predictor.split(_stored(checked, predictor, setup, tiles[:1]).numpy())
    off = int(np.abs(expected.astype(int) - found.astype(int)).max())
    checked.check(f"{setup.name}, fp32: as on a processor", off <= 1, f"off by {off}")
