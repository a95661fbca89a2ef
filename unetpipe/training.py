"""The training loop: plain, one screen, resumable to the bit.

Whatever is random belongs to a patch, seeded by (seed, step, index): place,
augmentation, dropout. So the state to save is the weights, the momentum and the step.
"""

import signal
from contextlib import closing
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

import torch
from torch import Tensor

from unetpipe.checkpoints import Checkpoints, TrainingState
from unetpipe.errors import Interrupted
from unetpipe.journal import Journal, show_progress
from unetpipe.loss import mean_loss, voxel_weights, weighted_cross_entropy
from unetpipe.model import UNet
from unetpipe.pipeline import prefetch
from unetpipe.progress import Progress
from unetpipe.sampling import Batch, PatchSampler
from unetpipe.signals import TIME_IS_UP, told_to_stop
from unetpipe.validation import Validator

STOP_SIGNALS = (*TIME_IS_UP, signal.SIGINT)
NUM_AHEAD = 3  # batches drawn ahead


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How the weights move (Ronneberger et al. 2015, Sect. 3).

    The fields are those of ``config.TrainingConfig``.
    """

    steps: int
    batch_size: int = 1
    learning_rate: float = 1e-3
    momentum: float = 0.99
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "step"] = "constant"
    schedule_every: int = 10_000
    schedule_factor: float = 0.1
    warmup_steps: int = 0
    gradient_clip: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    validate_every: int = 500
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


def train(
    network: UNet,
    sampler: PatchSampler,
    validator: Validator | None,
    checkpoints: Checkpoints,
    optimisation: Optimisation,
    *,
    class_weights: Tensor,
    device: torch.device,
    state: TrainingState | None = None,
) -> TrainingState:
    """Train a network, going on from a state if there is one.

    Parameters
    ----------
    network : UNet
        Freshly initialised; moved to the device.
    sampler : PatchSampler
        Draws the patches of each step.
    validator : Validator or None
        Scores the validation rows; without it the last weights are the result.
    checkpoints : Checkpoints
        Where state, best weights and history go.
    optimisation : Optimisation
        The optimiser, its schedule, and how often to validate and save.
    class_weights : float32 tensor, shape (k,)
        w_c of eq. (2).
    device : torch.device
        Where to compute.
    state : TrainingState, optional
        From ``checkpoints.load_state``.

    Returns
    -------
    TrainingState
        After the last step; ``best`` names the best weights.

    Raises
    ------
    Interrupted
        After SIGTERM, SIGINT or SIGUSR1; the step was finished and its state saved.
    DataError
        If the loss is no longer finite.
    """
    o = optimisation
    network.to(device, memory_format=_layout(network)).train()  # type: ignore[call-overload]
    class_weights = class_weights.to(device)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=o.learning_rate,
        momentum=o.momentum,
        weight_decay=o.weight_decay,
    )
    journal = Journal(network, optimizer, validator, checkpoints, state)
    batches = prefetch(
        range(journal.step, o.steps),
        lambda step: sampler.batch(step, o.batch_size),
        depth=NUM_AHEAD,
    )
    with (
        closing(batches),
        told_to_stop(*STOP_SIGNALS) as stop,
        Progress("training", o.steps, "step", done=journal.step) as progress,
    ):
        for step, patches in batches:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, o)
            batch = sampler.render(patches, device)

            energy, weight = _energy(network, batch, class_weights, o.precision)
            loss = mean_loss(energy, weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if o.gradient_clip is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), o.gradient_clip)
            optimizer.step()

            journal.record(step + 1, loss.detach(), learning_rate_at(step, o))
            if (step + 1) % o.validate_every == 0:
                journal.validate()
            if (step + 1) % o.checkpoint_every == 0 or stop.is_set():
                journal.save()
            show_progress(progress, journal)
            if stop.is_set():
                raise Interrupted(
                    f"stopped by a signal after step {step + 1} of {o.steps}; the "
                    f"state is in {checkpoints.folder}: repeat the command to go on"
                )
    journal.save()
    if o.steps % o.validate_every:
        journal.validate()  # not saved: more steps would not have scored here
    return journal.state()


def _energy(
    network: UNet, batch: Batch, class_weights: Tensor, precision: str
) -> tuple[Tensor, Tensor]:
    """Return the energy of eq. (1) on a batch, and the weight it sums over."""
    image = batch.image.contiguous(memory_format=_layout(network))
    with torch.autocast(image.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = network(image, batch.seeds)
    weights = voxel_weights(batch.target, batch.border, class_weights)
    return weighted_cross_entropy(logits, batch.target, weights, network.spec)


def _layout(network: UNet) -> torch.memory_format:
    """Return the faster memory layout of feature maps: channels innermost."""
    flat = network.spec.ndim == 2
    return torch.channels_last if flat else torch.channels_last_3d
