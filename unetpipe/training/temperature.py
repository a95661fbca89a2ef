"""One temperature of a finished network, fitted on the validation rows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetpipe.metrics.temperature import TemperatureFit, fit_temperature
from unetpipe.metrics.value_counts import NUM_LEVELS, count_values
from unetpipe.network.unet import UNet
from unetpipe.targets.annotated import Stack
from unetpipe.targets.weight_map import UNLABELLED
from unetpipe.training.validation import Validator


class Thermometer(Validator):
    """Fits a temperature to what would be stored of the validation rows.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".
    """

    def fit(
        self, network: UNet, *, orientations: Sequence[int] = (0,)
    ) -> TemperatureFit | None:
        """Return the temperature; None where one class alone is annotated.

        Parameters
        ----------
        network : UNet
            Of two classes, with or without cores; it stays as it is.
        orientations : sequence of int
            Over which prediction averages.
        """
        predictor = self._predictor(network, orientations)
        counts = np.zeros((2, NUM_LEVELS), np.int64)
        for stack in self._stacks(network.spec.ndim):
            stored, _ = self._predict(predictor, stack)
            target = stack.read(stack.volume.target, stack.seen)
            counts += count_values(
                stored[0], _is_cell(stack, target), unknown=target == UNLABELLED
            )
        return fit_temperature(counts)


def _is_cell(stack: Stack, target: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the cells as they were annotated, without the borders put between."""
    if stack.volume.instances is None:
        return np.asarray(target == 1)
    ids = stack.read(stack.volume.instances, stack.seen)
    return np.asarray((target == 1) | (ids != 0))
