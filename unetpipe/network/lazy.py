"""Predict a dask array lazily: a batch of the engine's tiles is a chunk of the result.

::

    image       |-----------|-----------|-----------|     chunks of its own
    read              |bb|tiles |aa|                      cut out of them, with the halo
    result      |-----|-----|-----|-----|-----|-----|     chunks: whole tiles
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from operator import getitem
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dask.array
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from dask.highlevelgraph import HighLevelGraph
from dask.utils import SerializableLock
from numpy.typing import NDArray

from unetpipe.tiling.assembly import source_roi_of_tiles
from unetpipe.tiling.boxes import Roi, as_zyx, grid_cell, grid_shape
from unetpipe.tiling.intensity import IntensityStatistics

if TYPE_CHECKING:
    from unetpipe.network.notebook import ChunkPredictor

# In a process one chunk is computed at a time, by all threads that torch has.
ONE_AT_A_TIME = SerializableLock("unetpipe-predict")


def measure_lazily(image: Any) -> list[IntensityStatistics]:
    """Return the statistics of each channel of a dask array (c, z, y, x).

    It is read once. Sums are exact, whatever the chunks.
    """
    measure = delayed(IntensityStatistics.of)
    chunks = [[measure(chunk) for chunk in c.to_delayed().ravel()] for c in image]
    found = compute(*chunks)  # type: ignore[no-untyped-call]
    return [sum(channel, IntensityStatistics()) for channel in found]


def predict_lazily(chunk: "ChunkPredictor", image: Any) -> tuple[Any, Any]:
    """Return the prediction of a dask array as dask arrays, computed where asked for.

    Parameters
    ----------
    chunk : ChunkPredictor
        Computes a chunk of the result; where dask works in other processes it is sent
        there, with the network.
    image : dask array, shape (c, z, y, x)
        Grey values as they are.

    Returns
    -------
    probability, classes : dask arrays of uint8, (k, z, y, x) and (z, y, x)
        As ``TrainedNetwork.predict`` returns them; the second is None for two classes.
    """
    grids, predictor = chunk.grids, chunk.predictor
    shape, (z, y, x) = grids.volume_shape, grids.stride
    side = as_zyx((z, y, x * chunk.batch_tiles))
    name = f"predict-{uuid4().hex}"
    tasks: dict[Any, Any] = {f"{name}-network": chunk}
    for index in product(*map(range, grid_shape(shape, side))):
        box = grid_cell(as_zyx(index), side, shape)
        seen = source_roi_of_tiles(tuple(grids.tiles(box)), predictor.halo, shape)
        keys, places = _find_cutouts(image, seen)
        order = _Order(box, seen, places)
        tasks[(name, *index)] = (_predict, f"{name}-network", order, keys)
    graph = HighLevelGraph.from_collections(name, tasks, [image])
    chunks = [_cut(n, s) for n, s in zip(shape, side, strict=True)]
    channels = ((predictor.num_channels,),)
    probability = _select(graph, name, 0, (*channels, *chunks))
    classes = _select(graph, name, 1, chunks) if predictor.has_classes else None
    return probability, classes


@dataclass(frozen=True, slots=True)
class _Order:
    """A box to predict, what its tiles see, and where the cutouts of that lie."""

    box: Roi
    seen: Roi
    places: list[tuple[tuple[slice, ...], tuple[slice, ...]]]


def _predict(
    chunk: "ChunkPredictor", order: _Order, cutouts: Sequence[NDArray[Any]]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    channels = max(into[0].stop for into, _ in order.places)
    voxels = np.empty((channels, *order.seen.shape), cutouts[0].dtype)
    for cutout, (into, of) in zip(cutouts, order.places, strict=True):
        voxels[into] = cutout[of]
    with ONE_AT_A_TIME:
        return chunk(order.box, order.seen.start, voxels)


def _find_cutouts(image: Any, seen: Roi) -> tuple[list[Any], list[Any]]:
    """Return the keys of the chunks that a box lies in, and what goes where."""
    wanted = [(0, image.shape[0]), *zip(seen.start, seen.stop, strict=True)]
    axes = [_cover(*pair) for pair in zip(image.chunks, wanted, strict=True)]
    keys, places = [], []
    for cutout in product(*axes):
        numbers, into, of = zip(*cutout, strict=True)
        keys.append((image.name, *numbers))
        places.append((into, of))
    return keys, places


def _cover(
    lengths: Sequence[int], wanted: tuple[int, int]
) -> list[tuple[int, slice, slice]]:
    """Return chunk, place in the box and place in the chunk, along one axis.

    Examples
    --------
    >>> _cover((4, 4, 4), (5, 7))
    [(1, slice(0, 2, None), slice(1, 3, None))]
    """
    ends = np.cumsum(lengths)
    start, stop = wanted
    found = []
    first, last = np.searchsorted(ends, [start, stop - 1], side="right").tolist()
    for number in range(first, last + 1):
        begins = int(ends[number]) - lengths[number]
        low, high = max(start, begins), min(stop, int(ends[number]))
        into, of = (slice(low - o, high - o) for o in (start, begins))
        found.append((number, into, of))
    return found


def _cut(length: int, side: int) -> tuple[int, ...]:
    return tuple(min(side, length - start) for start in range(0, length, side))


def _select(graph: Any, name: str, which: int, chunks: Sequence[Any]) -> Any:
    """Return probability or classes of what all tasks return, as a dask array."""
    own, leading = f"{name}-{which}", (0,) * (len(chunks) - 3)
    tasks = {
        (own, *leading, *index): (getitem, (name, *index), which)
        for index in product(*(range(len(lengths)) for lengths in chunks[-3:]))
    }
    graph = HighLevelGraph(
        graph.layers | {own: tasks}, graph.dependencies | {own: {name}}
    )
    meta = np.empty((0,) * len(chunks), np.uint8)
    return dask.array.Array(graph, own, tuple(chunks), meta=meta)  # type: ignore[no-untyped-call]
