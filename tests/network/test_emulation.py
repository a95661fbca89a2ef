"""Half precision where a processor has none: what is rounded, and when."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.network.test_exact_tiling import SPECS, he_network
from unetpipe.network.emulation import RoundedConvolutions
from unetpipe.network.predictor import TilePredictor

BF16 = torch.bfloat16
EMULATED = "unetpipe.network.predictor.has_arithmetic"


@pytest.fixture
def without_bf16(monkeypatch):
    monkeypatch.setattr(EMULATED, lambda device, precision: precision == "fp32")


def tiles_of(spec, seed=0):
    shape = spec.input_shape_for(spec.pooling_grid)
    grey = np.random.default_rng(seed).normal(size=(1, spec.in_channels, *shape))
    return grey.astype(np.float32)


@pytest.mark.parametrize(
    ("convolution", "shape"),
    [
        (torch.nn.Conv2d(3, 5, 3), (2, 3, 9, 11)),
        (torch.nn.Conv2d(3, 5, 3, padding=1), (1, 3, 9, 11)),
        (torch.nn.Conv2d(3, 2, 1), (1, 3, 4, 6)),
        (torch.nn.Conv3d(3, 5, 3, padding=1), (1, 3, 5, 7, 9)),
        (torch.nn.ConvTranspose2d(3, 5, 2, stride=2), (1, 3, 4, 6)),
        (torch.nn.ConvTranspose3d(3, 5, (1, 2, 2), stride=(1, 2, 2)), (1, 3, 3, 4, 6)),
    ],
    ids=str,
)
@pytest.mark.parametrize("strip_bytes", [1, 2**24])
def test_a_sum_is_rounded_once(monkeypatch, convolution, shape, strip_bytes):
    """So strips leave no seams, and a map is as one convolution makes it."""
    monkeypatch.setattr("unetpipe.network.emulation.STRIP_BYTES", strip_bytes)
    # Few bits and whole numbers: sums are exact, in whatever order they are taken.
    draw = torch.Generator().manual_seed(0)
    maps = torch.randint(-8, 8, shape, generator=draw).float()
    with torch.inference_mode():
        for values in convolution.parameters():
            values.copy_(torch.randint(-99, 99, values.shape, generator=draw))
        expected = convolution(maps).to(BF16)
        with torch.autocast("cpu", BF16), RoundedConvolutions(BF16):
            found = convolution(maps)
    assert found.dtype == BF16
    assert torch.equal(found, expected)
    assert not torch.equal(convolution(maps).float(), expected.float())


def test_values_and_weights_are_rounded_before_they_are_multiplied():
    convolution = torch.nn.Conv2d(1, 1, 1)
    maps = torch.full((1, 1, 2, 2), 1 + 2**-10)
    with torch.inference_mode():
        convolution.weight.fill_(1 + 2**-10)
        convolution.bias.fill_(2.0**-10)
        with torch.autocast("cpu", BF16), RoundedConvolutions(BF16):
            found = convolution(maps)
    assert (found == 1).all()


@pytest.mark.parametrize("name", SPECS)
def test_an_emulated_network_differs_from_float32_as_bf16_does(name, without_bf16):
    network, tiles = he_network(SPECS[name]), tiles_of(SPECS[name])
    exact = TilePredictor(network).probabilities(tiles)
    found = TilePredictor(network, precision="bf16").probabilities(tiles)
    assert not torch.equal(found, exact)
    assert float((found - exact).abs().mean()) < 0.01
    assert exact.std() > 0.05


class Watched(TorchDispatchMode):
    """Remembers in what convolutions are computed."""

    def __init__(self):
        super().__init__()
        self.dtypes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "conv" in str(func):
            self.dtypes.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["paper", "volumetric"])
def test_no_convolution_is_left_to_a_processor_without_bf16(name, without_bf16):
    spec = SPECS[name]
    predictor = TilePredictor(he_network(spec), precision="bf16")
    with Watched() as watched:
        predictor.probabilities(tiles_of(spec))
    assert set(watched.dtypes) == {torch.float32}
    assert len(watched.dtypes) >= 5 * spec.depth + 3
