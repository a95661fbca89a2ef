"""How often each value occurs inside and outside cells.

One small table answers every question on masks: the confusion matrix at any threshold,
and calibration. Tables of boxes add up, with ``+``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.curves import Scores, score_ratio

Counts = NDArray[np.int64]

NUM_LEVELS = 256  # of a stored probability, round(255 p)


def count_values(
    levels: NDArray[np.integer[Any]],
    foreground: NDArray[np.bool_],
    num_levels: int = NUM_LEVELS,
    *,
    unknown: NDArray[np.bool_] | None = None,
) -> Counts:
    """Count the voxels of each level outside and inside the foreground.

    Parameters
    ----------
    levels : integer array, range [0, num_levels)
        Stored probabilities, or grey values put into bins.
    foreground : bool array of the same shape
        The truth.
    num_levels : int
    unknown : bool array of the same shape, optional
        Voxels that nobody annotated; they are not counted.

    Returns
    -------
    int64 array, shape (2, num_levels)
        Row 0 is background, row 1 foreground.

    Examples
    --------
    >>> count_values(np.array([0, 2, 2]), np.array([False, True, False]), 3)
    array([[1, 0, 1],
           [0, 0, 1]])
    """
    pairs = levels.astype(np.int64) + num_levels * foreground
    if unknown is not None:
        pairs = pairs[~unknown]
    return np.bincount(pairs.ravel(), minlength=2 * num_levels).reshape(2, num_levels)


def confusion_above(counts: Counts, is_above: NDArray[np.bool_]) -> Counts:
    """Turn counts, (..., 2, levels), into confusion matrices, shape (..., 2, 2).

    Parameters
    ----------
    is_above : bool array, shape (levels,)
        The levels that the result calls foreground.
    """
    found = counts[..., is_above].sum(axis=-1)
    return np.stack([counts.sum(axis=-1) - found, found], axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Predicted probability against the share of voxels that are foreground.

    Attributes
    ----------
    probability : float64 array, shape (bins,)
        Mean predicted probability of each bin, NaN where empty.
    share : float64 array, shape (bins,)
        Share of its voxels that are foreground.
    num_voxels : int64 array, shape (bins,)
    expected_error : float
        Mean |probability - share| over voxels, in [0, 1]; NaN without voxels.

    Notes
    -----
    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. (3).
    """

    probability: Scores
    share: Scores
    num_voxels: Counts
    expected_error: float


def calibration_curve(counts: Counts, num_bins: int = 16) -> Calibration:
    """Compare predicted with true frequencies, shape (2, 256) of stored probability.

    Examples
    --------
    A map that says 0.2 where one voxel of five is foreground is calibrated:

    >>> counts = np.zeros((2, 256), np.int64)
    >>> counts[:, 51] = 4, 1
    >>> round(calibration_curve(counts).expected_error, 12)
    0.0
    """
    binned = counts.reshape(2, num_bins, -1)
    of_level = counts.sum(axis=0).reshape(num_bins, -1)
    num_voxels = of_level.sum(axis=1)
    levels = np.arange(counts.shape[1]).reshape(num_bins, -1) / (counts.shape[1] - 1)
    whole = num_voxels.astype(np.float64)
    probability = score_ratio((of_level * levels).sum(axis=1), whole)
    share = score_ratio(binned[1].sum(axis=1).astype(np.float64), whole)
    return _compare(probability, share, num_voxels)


def calibration_at_temperature(
    counts: Counts, probability: NDArray[np.floating[Any]], num_bins: int = 16
) -> Calibration:
    """Do the same for stored levels that mean other probabilities.

    Parameters
    ----------
    counts : int64 array, shape (2, levels)
    probability : float64 array, shape (levels,)
        What each level means, in [0, 1]; bins are of it.
    """
    bins = np.minimum((probability * num_bins).astype(np.intp), num_bins - 1)
    of_level = counts.sum(axis=0)

    def binned(values: NDArray[Any]) -> Scores:
        return np.bincount(bins, values, num_bins).astype(np.float64)

    whole = binned(of_level)
    mean = score_ratio(binned(of_level * probability), whole)
    share = score_ratio(binned(counts[1]), whole)
    return _compare(mean, share, whole.astype(np.int64))


def _compare(probability: Scores, share: Scores, num_voxels: Counts) -> Calibration:
    whole = num_voxels.astype(np.float64)
    gaps = np.where(num_voxels > 0, np.abs(probability - share), 0.0)
    error = score_ratio(np.array((gaps * whole).sum()), np.array(whole.sum()))
    return Calibration(probability, share, num_voxels, float(error))
