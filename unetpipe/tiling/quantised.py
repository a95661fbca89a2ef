"""Stored probabilities: round(255 p), and what they mean."""

import numpy as np
from numpy.typing import NDArray

DEFAULT_THRESHOLD = 0.5


def _round_down() -> NDArray[np.float32]:
    exact = np.arange(256) / 255
    rounded = exact.astype(np.float32)
    is_above = rounded.astype(np.float64) > exact
    return np.where(is_above, np.nextafter(rounded, np.float32(0)), rounded)


_PROBABILITIES = _round_down()


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
    """Return what stored values mean: float32 in [0, 1], the same for every stage.

    The largest float32 that is not above n / 255, so that a value which equals a
    threshold is nowhere above it: 51 is 0.2, and float32 alone would make it more.
    """
    return _PROBABILITIES[stored]
