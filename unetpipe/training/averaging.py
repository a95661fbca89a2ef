"""Averages of the weights over the course of a training: EMA and SWA.

EMA (exponential moving average) forgets old weights; SWA (stochastic weight averaging,
Izmailov et al. 2018) is their plain mean from some step on.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unetpipe.network.unet import UNet


@dataclass(frozen=True, slots=True)
class Averaging:
    """What is averaged, and from when on; the fields of ``config.TrainingConfig``.

    Parameters
    ----------
    averaging : "none", "ema" or "swa"
        The kind of mean.
    averaging_decay : float
        What EMA keeps of the mean at each update; less at first, so that the weights of
        the first steps are soon forgotten.
    averaging_start : int
        Steps before the first update.
    averaging_every : int
        Steps between updates.
    """

    averaging: Literal["none", "ema", "swa"] = "none"
    averaging_decay: float = 0.999
    averaging_start: int = 0
    averaging_every: int = 1

    def is_due(self, step: int) -> bool:
        """Say whether the weights after ``step`` steps join the mean."""
        since = step - self.averaging_start
        on = self.averaging != "none"
        return on and since > 0 and since % self.averaging_every == 0

    def share(self, num_averaged: int) -> float:
        """Return the share of the newest weights when so many are in the mean already.

        Examples
        --------
        >>> [Averaging("swa").share(n) for n in range(3)]
        [1.0, 0.5, 0.3333333333333333]
        >>> [Averaging("ema", averaging_decay=0.5).share(n) for n in (0, 9, 99)]
        [1.0, 0.5, 0.5]
        """
        mean = 1 / (num_averaged + 1)
        if self.averaging == "swa" or not num_averaged:
            return mean
        kept = (1 + num_averaged) / (10 + num_averaged)
        return 1 - min(self.averaging_decay, kept)


class AveragedWeights:
    """A mean of a network's weights, batch statistics included.

    Parameters
    ----------
    averaging : Averaging
        How.
    weights : dict of tensors, optional
        The mean so far, from a saved state.
    num_averaged : int
        How many weights are in it.
    """

    def __init__(
        self,
        averaging: Averaging,
        weights: dict[str, Tensor] | None = None,
        num_averaged: int = 0,
    ) -> None:
        self._averaging = averaging
        self.weights = weights or {}
        self.num_averaged = num_averaged

    @torch.no_grad()
    def update(self, network: UNet, step: int) -> None:
        """Let the weights after ``step`` steps join the mean, if it is their turn."""
        if not self._averaging.is_due(step):
            return
        share = self._averaging.share(self.num_averaged)
        self.num_averaged += 1
        for name, new in network.state_dict().items():
            old = self.weights.get(name)
            if old is None or not new.is_floating_point():
                self.weights[name] = new.clone()
            else:
                # A saved mean comes from the CPU; without a change, nothing is copied.
                self.weights[name] = old.to(new.device).lerp_(new, share)

    def network(self, like: UNet) -> UNet | None:
        """Return a copy of the network with the mean weights; None before the first."""
        if not self.num_averaged:
            return None
        averaged = deepcopy(like)
        averaged.load_state_dict(self.weights)
        return averaged
