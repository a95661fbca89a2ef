"""What forward passes take: measured as the engine runs them, each tile for itself."""

import numpy as np
import pytest
import torch

from unetpipe.network import tile_trials
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.tile_trials import measure_tile
from unetpipe.network.transfer import HostLane
from unetpipe.network.unet import UNet
from unetpipe.tiling.unet_spec import UNetSpec

STRIDE = (1, 16, 16)
SPEC = UNetSpec(base_channels=2, depth=1, in_channels=2)


class Gpu(HostLane):
    """A GPU's lane, as far as a processor has one; time passes by passes."""

    lag = 2

    def __init__(self, monkeypatch):
        self.uploaded, self.waited, self.memory, self.resets = [], [], 0, []
        monkeypatch.setattr(tile_trials, "choose_lane", lambda _: self)
        monkeypatch.setattr(tile_trials, "time", self)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", self._reset)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: self.memory)
        monkeypatch.setattr(
            torch, "full", lambda *a, device, **k: torch.tensor([1.0, 2])
        )

    def _reset(self, device):
        self.resets.append(device)
        self.memory = 0

    def monotonic(self):
        return 0.1 * len(self.uploaded)

    def upload(self, tiles):
        self.uploaded.append(tiles)
        self.memory = max(self.memory, tiles.numel())
        return tiles

    def download(self, *results):
        number = len(self.uploaded)
        return lambda: self.waited.append(number) or ()


@pytest.fixture
def gpu(monkeypatch):
    return Gpu(monkeypatch)


@pytest.fixture
def predictor():
    made = TilePredictor(UNet(SPEC))
    made.device = torch.device("cuda")
    forward = made.network.forward
    made._forward = lambda tiles: forward(tiles.squeeze(2))[:, :1].unsqueeze(2)
    return made


def test_on_a_gpu_passes_overlap_and_are_timed_for_a_while(gpu, predictor):
    """A tenth of a second each by this clock, after three that are not timed."""
    measured = measure_tile(predictor, STRIDE, 2, 3)
    assert len(gpu.uploaded) == 3 + 10
    assert gpu.waited == list(range(1, 14))
    assert measured.seconds_per_tile == pytest.approx(0.1 / 3)
    assert gpu.uploaded[0].dtype == torch.uint8
    assert tuple(gpu.uploaded[0].shape) == (3, 2, *predictor.tile_shape(STRIDE))


def test_the_peak_is_that_of_the_tile_alone(gpu, predictor):
    gpu.memory = 10**12  # of a candidate that did not fit
    measured = measure_tile(predictor, STRIDE, 2, 1)
    assert measured.peak_bytes == 2 * np.prod(predictor.tile_shape(STRIDE))
    assert gpu.resets == [torch.device("cuda")]


def test_each_candidate_is_compiled_anew(gpu, predictor, monkeypatch):
    """Else the ninth shape would run uncompiled, and be called compiled."""
    resets = []

    class Dynamo:
        reset = staticmethod(lambda: resets.append(len(gpu.uploaded)))

    monkeypatch.setitem(vars(torch), "_dynamo", Dynamo)
    measure_tile(predictor, STRIDE, 2, 1)
    assert not resets
    predictor.is_compiled = True
    before = len(gpu.uploaded)
    measure_tile(predictor, STRIDE, 2, 1)
    assert resets == [before]


def test_on_a_processor_two_passes_are_timed_after_one():
    predictor = TilePredictor(UNet(SPEC))
    measured = measure_tile(predictor, STRIDE, 2, 2)
    assert predictor.num_tiles == 3 * 2
    assert measured.seconds_per_tile > 0
    assert measured.peak_bytes > 2**20
