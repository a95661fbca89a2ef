"""How the weights move: optimiser, learning rate, how long."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

import torch
from torch import nn

from unetpipe.averaging import Averaging

SECOND_BETA = 0.999  # of Adam, as everywhere
NO_AVERAGING = Averaging()


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How the weights move (Ronneberger et al. 2015, Sect. 3).

    The fields are those of ``config.TrainingConfig``; ``momentum`` is a number.
    """

    steps: int
    batch_size: int = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 1e-3
    momentum: float = 0.99
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "step"] = "constant"
    schedule_every: int = 10_000
    schedule_factor: float = 0.1
    warmup_steps: int = 0
    gradient_clip: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    averaging: Averaging = NO_AVERAGING
    validate_every: int = 500
    patience: int | None = None
    checkpoint_every: int = 200


def learning_rate_at(step: int, optimisation: Optimisation) -> float:
    """Return the learning rate of step ``step``, counted from 0.

    Examples
    --------
    >>> learning_rate_at(0, Optimisation(steps=10, learning_rate=0.1, warmup_steps=4))
    0.025
    """
    o = optimisation
    rate = o.learning_rate
    if o.schedule == "cosine":
        rate *= (1 + cos(pi * step / o.steps)) / 2
    elif o.schedule == "step":
        rate *= o.schedule_factor ** (step // o.schedule_every)
    return rate * min(1.0, (step + 1) / max(1, o.warmup_steps))


def make_optimizer(
    parameters: Iterable[nn.Parameter], optimisation: Optimisation
) -> torch.optim.Optimizer:
    """Return what moves these weights; its state is all that it remembers.

    Parameters
    ----------
    parameters : iterable of Parameter
        On the device where they are trained.
    optimisation : Optimisation
        ``adamw`` is Loshchilov and Hutter 2019, ``momentum`` its first beta; the second
        is 0.999.
    """
    o = optimisation
    if o.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=o.learning_rate,
            betas=(o.momentum, SECOND_BETA),
            weight_decay=o.weight_decay,
            fused=True,
        )
    return torch.optim.SGD(
        parameters,
        lr=o.learning_rate,
        momentum=o.momentum,
        weight_decay=o.weight_decay,
    )
