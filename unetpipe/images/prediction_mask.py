"""Masks that say what to predict: any image, at any resolution."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError
from unetpipe.images import ImageReader, Reading, open_image
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.skipping import tiles_in_mask

SECTIONS_AT_ONCE = 8


def read_mask(cell: str, grids: TileGrids) -> NDArray[np.bool_]:
    """Return which tiles of a volume a mask touches.

    Parameters
    ----------
    cell : str
        Path of a TIFF, PNG, HDF5 dataset, folder of sections or OME-Zarr, as in the
        sheet; ``store.ome.zarr/2`` is a coarser level of a store.
    grids : TileGrids
        The volume's tile grid.

    Raises
    ------
    DataError
        If the mask is not there, does not fit the volume, or holds nothing.
    """
    try:
        with open_image(cell, Path(), Reading(is_labels=True)) as reader:
            kept = tiles_in_mask(_sections(reader), reader.zyx, grids)
    except DataError as error:
        raise DataError(f"prediction.mask {cell}: {error}") from error
    if not kept.any():
        raise DataError(
            f"prediction.mask {cell} is 0 everywhere; mark what to predict with "
            "another value"
        )
    return kept


def _sections(reader: ImageReader) -> Iterator[NDArray[np.bool_]]:
    """Yield sections, decoding each chunk of a store about once."""
    for start in range(0, reader.zyx[0], SECTIONS_AT_ONCE):
        stop = min(start + SECTIONS_AT_ONCE, reader.zyx[0])
        yield from (reader.read_sections(start, stop) != 0).any(axis=0)
