"""How the weights move: optimiser, learning rate, how long."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

import torch
from torch import nn

from unetpipe.training.averaging import Averaging

SECOND_BETA = 0.999  # of Adam, as everywhere
NO_AVERAGING = Averaging()
# With ``validate_every: auto``: the first few, so that a short training has some.
VALIDATE_EVERY, VALIDATE_FIRST = 500, (50, 100, 200)


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
    validate_every: int | Literal["auto"] = "auto"
    patience: int | None = None
    checkpoint_every: int | Literal["auto"] = "auto"

    @property
    def validation_interval(self) -> int:
        """Steps between two validations, the first few apart."""
        is_auto = self.validate_every == "auto"
        return VALIDATE_EVERY if is_auto else int(self.validate_every)

    def is_scored_after(self, step: int) -> bool:
        """Tell whether the validation rows are scored after a step, if more follow."""
        is_first = self.validate_every == "auto" and step in VALIDATE_FIRST
        return is_first or step % self.validation_interval == 0

    def describe_validations(self) -> str:
        """Return how often the validation rows are scored, and what follows."""
        times = 1 + sum(map(self.is_scored_after, range(1, self.steps)))
        if times > 1:
            return (
                f"the validation rows are scored {times} times; the weights that score "
                "best are the result"
            )
        is_helped = self.validate_every != "auto" and self.steps > VALIDATE_FIRST[0]
        return (
            "the validation rows are scored once, after the last step, whose weights "
            f"are the result: training.validate_every is {self.validate_every}, "
            f"training.steps {self.steps}; a smaller validate_every"
            f"{', or auto,' * is_helped} takes the best of several"
        )


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
