"""Stored probabilities: round(255 p), and what they mean."""

import numpy as np
from numpy.typing import NDArray

DEFAULT_THRESHOLD = 0.5


def threshold_or_default(chosen: float | None) -> float:
    """Return the threshold that validation rows chose, or 0.5 where none did."""
    return DEFAULT_THRESHOLD if chosen is None else float(chosen)


def threshold_mask(
    probability: NDArray[np.uint8], threshold: float
) -> NDArray[np.bool_]:
    """Return where the stored probability is above a threshold (strict).

    Parameters
    ----------
    probability : uint8 array
        round(255 p), as stored.
    threshold : float
        In [0, 1].
    """
    values = as_probability(np.arange(256, dtype=np.uint8))
    lowest = int(np.count_nonzero(values <= np.float64(threshold)))
    return np.asarray(probability >= lowest)


def as_probability(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what stored values mean: float32 in [0, 1], the same for every stage."""
    return stored.astype(np.float32) / np.float32(255)
