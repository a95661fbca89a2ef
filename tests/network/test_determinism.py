"""What cuDNN is told: algorithms that repeat their bits, and no TF32 for fp32."""

import pytest
import torch

from unetpipe.network.determinism import (
    deterministic_algorithms,
    repeatable_convolutions,
)
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.tiling.unet_spec import UNetSpec

CUDNN = torch.backends.cudnn


@pytest.fixture(params=["as torch starts", "newer switch", "general switch", "ieee"])
def chosen_before(request):
    """Whatever a notebook has chosen before it predicts."""
    general, conv = torch.backends.fp32_precision, CUDNN.conv.fp32_precision
    if request.param == "newer switch":
        CUDNN.conv.fp32_precision = "tf32"
    if request.param == "general switch":
        torch.backends.fp32_precision = "tf32"
    if request.param == "ieee":
        CUDNN.conv.fp32_precision = "ieee"
    yield
    torch.backends.fp32_precision = general
    CUDNN.conv.fp32_precision = conv


def switches():
    return (
        CUDNN.enabled,
        CUDNN.benchmark,
        CUDNN.deterministic,
        CUDNN.conv.fp32_precision,
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.mark.parametrize("autotune", [False, True])
def test_convolutions_repeat_their_bits_without_tf32(chosen_before, autotune):
    before = switches()
    with repeatable_convolutions(autotune=autotune):
        assert switches()[:4] == (True, autotune, True, "ieee")
    assert switches() == before


@pytest.mark.parametrize("deterministic", [False, True])
def test_training_in_fp32_takes_no_tf32(chosen_before, deterministic):
    before = switches()
    with deterministic_algorithms(deterministic=deterministic):
        assert CUDNN.conv.fp32_precision == "ieee"
        assert CUDNN.benchmark is not deterministic
    assert switches() == before


def test_the_switches_come_back_after_an_error(chosen_before):
    before = switches()
    for context in (
        repeatable_convolutions(autotune=True),
        deterministic_algorithms(deterministic=True),
    ):
        with pytest.raises(KeyError), context:
            raise KeyError
        assert switches() == before


def test_predictors_on_a_gpu_convolve_like_that():
    predictor = TilePredictor(UNet(UNetSpec(base_channels=2, depth=1)))
    with predictor._convolutions():
        assert not CUDNN.deterministic
    predictor.device = torch.device("cuda")
    with predictor._convolutions():
        assert CUDNN.deterministic
        assert CUDNN.conv.fp32_precision == "ieee"
