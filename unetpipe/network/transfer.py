"""The way of tiles to the device and back, beside the computing.

On a GPU copies run on streams of their own, from and to pinned memory, while the
network computes. Pinned buffers come from torch's caching host allocator, which hands
one out again only when the copies that use it are done: a ring that keeps its own
books. On the CPU tiles are where they are computed, and nothing is copied.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = tuple[NDArray[Any], ...]


class Lane(Protocol):
    """What the engine needs to know of a device.

    Attributes
    ----------
    lag : int
        Batches that may be under way on the device while the next is prepared.
    """

    lag: int

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """Return a buffer on the host, to be filled through ``numpy()``."""

    def upload(self, tiles: Tensor) -> Tensor:
        """Return the tiles on the device; what computes on them waits by itself."""

    def download(self, *results: Tensor) -> Callable[[], Arrays]:
        """Start to copy results back; the call that is returned waits for them."""


class HostLane:
    """The processor itself."""

    lag = 0

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """Return ordinary memory."""
        return torch.from_numpy(np.empty(shape, dtype))

    def upload(self, tiles: Tensor) -> Tensor:
        """Return the tiles."""
        return tiles

    def download(self, *results: Tensor) -> Callable[[], Arrays]:
        """Return the results."""
        return lambda: tuple(result.numpy() for result in results)


class CudaLane:
    """A GPU: one stream for each direction, beside the one that computes."""

    lag = 2

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._inward = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._outward = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """Return pinned memory: only from there copies run beside the computing."""
        like = torch.from_numpy(np.empty(0, dtype))
        return torch.empty(shape, dtype=like.dtype, pin_memory=True)

    def upload(self, tiles: Tensor) -> Tensor:
        """Copy on the inward stream; the computing stream waits for it."""
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._inward):
            arrived = tiles.to(self._device, non_blocking=True)
        computing.wait_stream(self._inward)
        arrived.record_stream(computing)
        return arrived

    def download(self, *results: Tensor) -> Callable[[], Arrays]:
        """Copy on the outward stream, after what was computed so far."""
        self._outward.wait_stream(torch.cuda.current_stream(self._device))
        arrived = [
            torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            for result in results
        ]
        # Blocking: an event of the usual kind is waited for by a processor that spins.
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._outward):
            for target, result in zip(arrived, results, strict=True):
                target.copy_(result, non_blocking=True)
                result.record_stream(self._outward)
            done.record(self._outward)

        def wait() -> Arrays:
            done.synchronize()
            return tuple(target.numpy() for target in arrived)

        return wait


def choose_lane(device: torch.device) -> Lane:
    """Return the lane of a device."""
    return CudaLane(device) if device.type == "cuda" else HostLane()
