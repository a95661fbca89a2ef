"""Temperature scaling: probabilities as sure as they are right, by one number.

::

    p_T = sigmoid(logit(p) / T)      T > 1: the network was too sure;  T < 1: not enough

The order of voxels stays, so that a threshold on p has its equal on p_T, and a mask
stays as it is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from unetpipe.metrics.value_counts import Counts

COOLEST, HOTTEST = 0.05, 20.0
# A stored probability of 0 stands for anything below half a step.
LEAST_PROBABILITY = 0.5 / 255


@dataclass(frozen=True, slots=True)
class TemperatureFit:
    """The temperature of the smallest loss, and the losses.

    Attributes
    ----------
    temperature : float
        Between ``COOLEST`` and ``HOTTEST``.
    loss_before, loss_after : float
        Mean cross-entropy in nats a voxel, of what is stored and with the temperature.
    num_voxels : int
        That it was fitted on.
    """

    temperature: float
    loss_before: float
    loss_after: float
    num_voxels: int


def at_temperature(
    probability: ArrayLike, temperature: float
) -> NDArray[np.floating[Any]]:
    """Return probabilities of a foreground at a temperature.

    Parameters
    ----------
    probability : array
        As predicted, in [0, 1]; 0 and 1 count as half a stored step beside them.
    temperature : float
        1 changes nothing but these.

    Examples
    --------
    >>> at_temperature([0.2, 0.5, 0.9], 2.0).round(3).tolist()
    [0.333, 0.5, 0.75]
    """
    p = np.clip(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    scaled: NDArray[np.floating[Any]] = expit(logit(p) / temperature)
    return scaled


def fit_temperature(counts: Counts) -> TemperatureFit | None:
    """Return the temperature at which stored probabilities fit the truth best.

    Parameters
    ----------
    counts : int64 array, shape (2, 256)
        Voxels by truth and stored probability, from ``count_values``.

    Returns
    -------
    TemperatureFit or None
        None where one class alone is annotated: then surer is always better.

    Notes
    -----
    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", sect. 4.2.

    Examples
    --------
    Who says 0.8 and is right in two cases of three is too sure:

    >>> counts = np.zeros((2, 256), np.int64)
    >>> counts[:, 51], counts[:, 204] = (2, 1), (1, 2)
    >>> round(fit_temperature(counts).temperature, 6)
    2.0
    """
    if not counts.any(axis=1).all():
        return None
    levels = np.linspace(0, 1, counts.shape[1])
    total = int(counts.sum())

    def loss(log_temperature: float) -> float:
        p = at_temperature(levels, float(np.exp(log_temperature)))
        of_truth = np.log([1 - p, p])
        return float(-(counts * of_truth).sum() / total)

    found = minimize_scalar(
        loss,
        bounds=(np.log(COOLEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return TemperatureFit(float(np.exp(found.x)), loss(0.0), float(found.fun), total)
