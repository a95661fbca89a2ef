"""What the scores of single sections accept: a probability and a mask of cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import DataError, GeometryError


def check_section(section: NDArray[Any]) -> None:
    """Raise GeometryError unless the array is one section, shape (y, x)."""
    if section.ndim != 2:
        raise GeometryError(
            f"expected one section of shape (y, x), got shape {section.shape}; "
            "pass the sections of a stack one by one"
        )


def check_pair(
    probability: NDArray[np.floating[Any]], cells: NDArray[np.integer[Any] | np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return one section as float32 probability and mask, or say what does not fit."""
    check_section(probability)
    if probability.shape != cells.shape:
        raise GeometryError(
            f"probability has shape {probability.shape}, cells {cells.shape}; "
            "crop them to the same section"
        )
    return check_proposal(probability), check_cells(cells)


def check_proposal(probability: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the probability as float32, or raise DataError if it is none.

    Notes
    -----
    A proposal reached the challenge as 32-bit TIFF and was compared to 64-bit
    thresholds; 51/255 as float32 is above 0.2, as float64 it is not.
    """
    if probability.dtype.kind != "f":
        raise DataError(
            f"probability has dtype {probability.dtype}; "
            "pass floats in [0, 1], stored uint8 divided by 255"
        )
    low, high = probability.min(initial=0.0), probability.max(initial=0.0)
    if not (low >= 0 and high <= 1):  # also False for NaN
        raise DataError(
            f"probability spans {low} to {high}; scale it to [0, 1] and fill NaN"
        )
    return probability.astype(np.float32)


def check_cells(cells: NDArray[np.integer[Any] | np.bool_]) -> NDArray[np.bool_]:
    """Return the mask of cells, or raise DataError for anything but a binary label."""
    mask: NDArray[np.bool_] = cells != 0
    inside = cells[mask]
    if inside.size and inside.min() != inside.max():
        raise DataError(
            f"cells hold several values, {inside.min()} to {inside.max()}; pass a "
            "binary mask with 0 on the membranes, not instance ids"
        )
    return mask
