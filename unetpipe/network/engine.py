"""The engine: blocks of voxels in, predicted blocks out, every step at the same time.

::

    reader      |read block 1   |read block 2          |
    assembler      |t1|t2|t3|t4|t1|t2|...                    mirrored tiles, in batches
    device            |t1   |t2   |t3   |t4   |t1   |        copy, forward, quantise
    this thread             |t1|  |t2|  |t3|  |t4|-> block 1

Each step waits while the next has its queue full. Nothing here changes a stored bit:
the arithmetic is in ``predictor`` and ``tiling.assembly``.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from threading import Event
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.network.devices import enough_device_memory
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.openvino_network import OpenVinoUNet, torch_precision
from unetpipe.network.predictor import TilePredictor, check_finite
from unetpipe.network.transfer import Arrays, Lane, choose_lane
from unetpipe.network.unet import UNet
from unetpipe.records.prediction import Identity
from unetpipe.runtime.background import Writer, ahead, named_in_errors
from unetpipe.runtime.progress import Progress
from unetpipe.runtime.signals import check_finished
from unetpipe.tiling.assembly import (
    BlockPrediction,
    BlockVoxels,
    Canvas,
    assemble_tile,
    transfer_dtype,
)
from unetpipe.tiling.boxes import Roi
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.intensity import Statistic

BATCHES_AHEAD = 2
SMALLER_TILES = (
    "lower prediction.memory_gb, which plans smaller tiles into another store"
)


Entry = tuple[Canvas, Roi]
"""A tile on its way, and the canvas that it belongs to."""


class Engine:
    """Predicts blocks, with all steps overlapping.

    Parameters
    ----------
    predictor : TilePredictor
        The network on its device.
    grids : TileGrids
        The volume's one tile grid.
    mean, std : float arrays, shape (c,)
        Intensity statistics of the whole volume.
    batch_tiles : int
        Tiles in one forward pass; the last batch is filled up with zeros, so that all
        passes have the same shape. Batches go on across blocks.
    lane : Lane, optional
        The way to the device and back.
    """

    def __init__(
        self,
        predictor: TilePredictor,
        grids: TileGrids,
        *,
        mean: Statistic,
        std: Statistic,
        batch_tiles: int = 1,
        lane: Lane | None = None,
    ) -> None:
        self.predictor = predictor
        self.grids = grids
        self.batch_tiles = batch_tiles
        self.lane = lane or choose_lane(predictor.device)
        self.num_tiles = 0
        self.seconds_waiting = 0.0
        self._exact_mean = mean  # of wide values: taken away before they travel
        self._mean, self._std = (
            torch.from_numpy(np.asarray(values, np.float32)).to(predictor.device)
            for values in (mean, std)
        )

    def predict_blocks(
        self, blocks: Iterable[BlockVoxels]
    ) -> Generator[BlockPrediction, None, None]:
        """Yield each block's prediction as soon as it is whole.

        Parameters
        ----------
        blocks : iterable of BlockVoxels
            Drawn in another thread, ahead of the computing.

        Raises
        ------
        DataError
            If a probability is not finite; the message names block and tile.
        ResourceError
            If the device's memory does not suffice.
        """
        under_way: deque[tuple[list[Entry], Callable[[], Arrays]]] = deque()
        with closing(ahead(self._batches(blocks), depth=BATCHES_AHEAD)) as batches:
            while (batch := self._next(batches)) is not None:
                entries, tiles = batch
                under_way.append((entries, self._launch(entries, tiles)))
                del batch, tiles
                while len(under_way) > self.lane.lag:
                    yield from self._collect(*under_way.popleft())
            while under_way:
                yield from self._collect(*under_way.popleft())

    def _batches(
        self, blocks: Iterable[BlockVoxels]
    ) -> Iterator[tuple[list[Entry], Tensor]]:
        """Yield batches of assembled tiles; a batch may go on in the next block."""
        try:
            yield from self._assembled(blocks)
        finally:
            if isinstance(blocks, Generator):
                blocks.close()

    def _assembled(
        self, blocks: Iterable[BlockVoxels]
    ) -> Iterator[tuple[list[Entry], Tensor]]:
        entries: list[Entry] = []
        tiles = torch.empty(0)
        for block in blocks:
            canvas = Canvas(
                block,
                self.predictor.num_channels,
                has_classes=self.predictor.has_classes,
            )
            if canvas.is_whole:  # nothing to predict: the canvas travels by itself
                yield [(canvas, block.roi)], torch.empty(0)
            for tile in block.tiles:
                with named_in_errors(_place(canvas, tile)):
                    if not entries:
                        tiles = self._empty_batch(block.source)
                    assemble_tile(
                        block,
                        tile,
                        self.predictor.halo,
                        self.grids,
                        tiles.numpy()[len(entries)],
                        self._exact_mean,
                    )
                entries.append((canvas, tile))
                if len(entries) == self.batch_tiles:
                    yield entries, tiles
                    entries = []
        if entries:
            tiles.numpy()[len(entries) :] = 0
            yield entries, tiles

    def _empty_batch(self, source: NDArray[Any]) -> Tensor:
        shape = self.predictor.tile_shape(self.grids.stride)
        with enough_device_memory(f"tiles of {shape} voxels", SMALLER_TILES):
            return self.lane.empty(
                (self.batch_tiles, len(source), *shape), transfer_dtype(source.dtype)
            )

    def _next(
        self, batches: Iterator[tuple[list[Entry], Tensor]]
    ) -> tuple[list[Entry], Tensor] | None:
        began = time.monotonic()
        batch = next(batches, None)
        self.seconds_waiting += time.monotonic() - began
        return batch

    def _launch(self, entries: list[Entry], tiles: Tensor) -> Callable[[], Arrays]:
        """Start a batch; on a GPU this only queues the work."""
        if not tiles.numel():
            return tuple
        what = f"tiles of {tuple(tiles.shape[2:])} voxels"
        with (
            named_in_errors(_place(*entries[0])),
            enough_device_memory(what, SMALLER_TILES),
        ):
            is_centred = tiles.element_size() > 2  # see ``assemble_tile``
            stored, is_finite = self.predictor.quantised(
                self.lane.upload(tiles),
                self.grids.stride,
                mean=torch.zeros_like(self._mean) if is_centred else self._mean,
                std=self._std,
            )
            return self.lane.download(stored, is_finite)

    def _collect(
        self, entries: list[Entry], results: Callable[[], Arrays]
    ) -> Iterator[BlockPrediction]:
        """Wait for a batch, paste its tiles, and yield the blocks it completes."""
        arrays = results()
        for i, (canvas, tile) in enumerate(entries):
            if arrays:
                stored, is_finite = arrays
                with named_in_errors(_place(canvas, tile)):
                    check_finite(is_finite[i])
                probability, classes = self.predictor.split(stored[i : i + 1])
                canvas.paste(
                    tile, probability[0], None if classes is None else classes[0]
                )
                self.num_tiles += 1
            if canvas.is_whole:
                yield canvas.finish()


def open_engine(
    identity: Identity,
    grids: TileGrids,
    network: UNet | Ensemble | OpenVinoUNet,
    *,
    device: torch.device,
    autotune: bool,
) -> Engine:
    """Return the engine that computes what an identity describes.

    Parameters
    ----------
    identity : Identity
        Precision, orientations, batch, and the intensities of the whole volume.
    grids : TileGrids
        The volume's grids.
    network : UNet, Ensemble or OpenVinoUNet
        With the weights that the identity names, as its backend computes them.
    device : torch.device
        Where to compute.
    autotune : bool
        See ``TilePredictor``.
    """
    predictor = TilePredictor(
        network,
        precision=torch_precision(network, identity.precision),
        device=device,
        orientations=identity.orientations,
        is_compiled=identity.is_compiled,
        autotune=autotune,
    )
    # Of wide values 32 bits do not hold the mean.
    mean, std = np.ascontiguousarray(np.array(identity.statistics, np.float64).T)
    return Engine(
        predictor, grids, mean=mean, std=std, batch_tiles=identity.batch_tiles
    )


class BlockStore(Protocol):
    """Where blocks come from: the open stores of a prediction."""

    def read(self, number: int) -> BlockVoxels:
        """Read what a block's tiles see."""


def compute_blocks(
    engine: Engine,
    store: BlockStore,
    todo: list[int],
    write: Callable[[BlockPrediction], None],
    *,
    stop: Event,
    name: str,
) -> None:
    """Compute blocks in order; a stop takes effect after the block in flight.

    Parameters
    ----------
    engine : Engine
    store : BlockStore
        Read in another thread, ahead of the computing.
    todo : list of int
        Numbers of the blocks.
    write : function
        Writes a block, in a third thread.
    stop : Event
        Set by whoever wants the work to end early.
    name : str
        For the progress.

    Raises
    ------
    Interrupted
        If the work was ended before the last block.
    """
    progress = Progress(name, len(todo), "block")
    predicted = engine.predict_blocks(ahead(map(store.read, todo)))
    with progress, Writer(write) as writer, closing(predicted):
        for block in predicted:
            writer.put(block)
            progress.update()
            if stop.is_set():
                break
    check_finished(stop, progress.done, len(todo))


def _place(canvas: Canvas, tile: Roi) -> str:
    return f"block {canvas.number}, tile at z, y, x = {tile.start}"
