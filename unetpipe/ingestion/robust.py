"""Percentiles of an image that was stored: what few voxels cannot move."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.images import ImageReader
from unetpipe.ingestion.copying import Layout
from unetpipe.ingestion.slabs import ingest_label_boxes
from unetpipe.records.volume import GreyPercentiles
from unetpipe.storage.volumes import open_volume, read_stored_roi
from unetpipe.tiling.boxes import grid_cell, iterate_grid, whole_volume
from unetpipe.tiling.percentiles import stream_percentiles

log = logging.getLogger(__name__)

Ranks = tuple[float, float]


def measure_percentiles(
    reader: ImageReader, store: Path | None, layout: Layout, ranks: Ranks
) -> list[GreyPercentiles | None]:
    """Return two percentiles of each channel, over all its finite voxels.

    Parameters
    ----------
    reader : ImageReader
        The image as its files hold it.
    store : Path or None
        Where the same voxels are stored, which is faster to read.
    layout : Layout
        Of the store.
    ranks : (float, float)
        In percent.

    Returns
    -------
    list
        None for a channel whose two percentiles are one grey value, or that holds no
        finite voxel: they tell nothing of its contrast.
    """
    shard = layout.clip(reader.zyx).shard

    def read() -> Iterator[NDArray[Any]]:
        if store is None:
            for box in ingest_label_boxes(reader, shard, "percentiles"):
                yield box.voxels
            return
        array = open_volume(store)
        for index in iterate_grid(whole_volume(reader.zyx), shard):
            yield read_stored_roi(array, grid_cell(index, shard, reader.zyx))

    found = stream_percentiles(read, ranks)
    return [
        GreyPercentiles.between(ranks, (values[0], values[1]))
        if np.isfinite(values).all() and values[0] < values[1]
        else None
        for values in found
    ]


def describe_flat(
    channels: list[GreyPercentiles | None], ranks: Ranks
) -> Iterator[str]:
    """Warn of channels that percentiles tell nothing of."""
    for channel, found in enumerate(channels):
        if found is None:
            yield (
                f"channel {channel} of the image: percentiles {ranks[0]:g} and "
                f"{ranks[1]:g} (ingest.percentiles) are one grey value, so it is "
                "normalised by mean and standard deviation; choose percentiles that "
                "are farther apart"
            )
