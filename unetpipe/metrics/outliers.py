"""Robust statistics: what differs from its neighbours, and from what is usual."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

AS_NORMAL = 1.4826  # median absolute deviation -> standard deviation of normal values
REACH = 10  # values before and after that a value is compared with
FAR = 6.0  # deviations

Values = NDArray[np.float64]


def robust_deviation(values: ArrayLike) -> float:
    """Return the median absolute deviation, scaled to a standard deviation.

    Examples
    --------
    >>> round(robust_deviation([1, 2, 3, 4, 1000]), 4)
    1.4826
    """
    known = np.asarray(values, np.float64)
    return AS_NORMAL * float(np.median(np.abs(known - np.median(known))))


def running_medians(values: ArrayLike, reach: int = REACH) -> Values:
    """Return the median of each value and those around it, as many at the ends.

    Examples
    --------
    >>> running_medians([1, 9, 2, 3, 4, 5], reach=1)
    array([2., 2., 3., 3., 4., 4.])
    """
    known = np.asarray(values, np.float64)
    width = min(2 * reach + 1, len(known))
    windows = np.lib.stride_tricks.sliding_window_view(known, width)
    inside = np.median(windows, axis=1)
    index = np.clip(np.arange(len(known)) - width // 2, 0, len(inside) - 1)
    return np.asarray(inside[index])


def residuals_from_median(values: ArrayLike) -> Values:
    """Return how far each value lies from the median of those around it."""
    known = np.asarray(values, np.float64)
    return known - running_medians(known)


def _drift_to_ends(known: Values) -> Values:
    """Return how far a drift leads from the medians around to the first and last.

    They have no values on one side; the drift is that from half to half of the rest.
    """
    drift = np.zeros(len(known))
    if len(known) > 2 * REACH + 1:
        for end, outward in ((slice(REACH), -1), (slice(-REACH, None), 1)):
            window = known[: 2 * REACH + 1] if outward < 0 else known[-2 * REACH - 1 :]
            before, after = np.median(window[:REACH]), np.median(window[-REACH:])
            away = np.arange(1, REACH + 1)[::outward]
            drift[end] = outward * away * (after - before) / (REACH + 1)
    return drift


def is_outlier(
    values: ArrayLike, least: float, deviations: float = FAR
) -> NDArray[np.int8]:
    """Tell which values lie far from those around: -1 below, 1 above, else 0.

    Parameters
    ----------
    values : array, shape (n,)
        In order: a drift is not far.
    least : float
        What is nearer than this is not far, however alike the others are.
    deviations : float
        How many make far.

    Notes
    -----
    Deviations are those of all residuals, so what many values do is usual. The first
    and the last are not far either where the drift of those around leads to them.
    """
    rest = residuals_from_median(values)
    limit = max(least, deviations * robust_deviation(rest))
    beyond = rest - _drift_to_ends(np.asarray(values, np.float64))
    are_far = (np.abs(rest) > limit) & (np.abs(beyond) > limit)
    return np.asarray(np.sign(rest) * are_far, np.int8)
