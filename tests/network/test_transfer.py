"""The way to a GPU and back, by a stand-in that notes what it is asked for."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from unetpipe.network.transfer import CudaLane


class Event:
    def __init__(self, noted, *, enable_timing=False, blocking=False):
        self._noted, self.is_blocking = noted, blocking

    def record(self, stream):
        self._noted.append(("recorded", stream.name))

    def synchronize(self):
        self._noted.append(("waited", self.is_blocking))


class Stream:
    def __init__(self, name, noted):
        self.name, self._noted = name, noted

    def wait_stream(self, other):
        self._noted.append((self.name, "after", other.name))


@pytest.fixture
def noted(monkeypatch):
    """What is asked of CUDA, in order; tensors stay where they are."""
    notes = []
    names = iter(("inward", "outward"))
    empty = torch.empty
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: Stream(next(names), notes))
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda _: Stream("computing", notes)
    )
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "Event", lambda **kind: Event(notes, **kind))

    def pinned(*shape, pin_memory, **kind):
        notes.append(("pinned", pin_memory))
        return empty(*shape, **kind)

    monkeypatch.setattr(torch, "empty", pinned)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    return notes


def test_who_waits_for_a_result_sleeps_until_it_is_there(noted):
    """An event of the usual kind is waited for by a processor that spins."""
    lane = CudaLane(torch.device("cpu"))
    wait = lane.download(torch.arange(6, dtype=torch.uint8), torch.tensor([True]))
    assert noted == [
        ("outward", "after", "computing"),
        ("pinned", True),
        ("pinned", True),
        ("recorded", "outward"),
    ]
    numbers, flags = wait()
    assert noted[-1] == ("waited", True)
    assert (numbers.tolist(), flags.tolist()) == ([0, 1, 2, 3, 4, 5], [True])


def test_computing_waits_for_the_tiles(noted):
    lane = CudaLane(torch.device("cpu"))
    tiles = lane.empty((1, 2), np.dtype(np.uint8))
    tiles[:] = 7
    assert lane.upload(tiles).tolist() == [[7, 7]]
    assert noted == [("pinned", True), ("computing", "after", "inward")]
