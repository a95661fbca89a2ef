"""The training loop: plain, one screen, resumable to the bit.

Whatever is random belongs to a patch, seeded by (seed, step, index): place,
augmentation, dropout. So the state to save is the weights, what the optimiser
remembers, and the step.
"""

import signal
from contextlib import closing

import torch
from torch import Tensor, nn

from unetpipe.errors import Interrupted
from unetpipe.network.devices import enough_device_memory
from unetpipe.network.unet import UNet
from unetpipe.runtime.background import prefetch
from unetpipe.runtime.progress import Progress
from unetpipe.runtime.signals import TIME_IS_UP, told_to_stop
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.averaging import AveragedWeights
from unetpipe.training.checkpoints import Checkpoints, TrainingState
from unetpipe.training.distributed import Team
from unetpipe.training.journal import Journal, Place, show_training_progress
from unetpipe.training.loss import (
    affinity_energy,
    mean_loss,
    voxel_weights,
    weighted_cross_entropy,
)
from unetpipe.training.optimiser import Optimisation, learning_rate_at, make_optimizer
from unetpipe.training.sampling import Batch, Patch, PatchSampler
from unetpipe.training.validation import Validator

STOP_SIGNALS = (*TIME_IS_UP, signal.SIGINT)
NUM_AHEAD = 3  # batches drawn ahead
LEAST_CHANNELS = 16  # of the first layer, where the layout of maps decides much
SMALLER_STEPS = (
    "lower training.patch, training.batch_size or network.base_channels, or choose "
    "training.precision: bf16"
)


def train(
    network: UNet,
    sampler: PatchSampler,
    validator: Validator | None,
    checkpoints: Checkpoints,
    optimisation: Optimisation,
    *,
    class_weights: Tensor,
    place: Place,
    state: TrainingState | None = None,
) -> TrainingState:
    """Train a network, going on from a state if there is one.

    Parameters
    ----------
    network : UNet
        With its first weights; moved to the device. What is frozen in it stays.
    sampler : PatchSampler
        Draws the patches of each step.
    validator : Validator or None
        Scores the validation rows; without it the last weights are the result.
    checkpoints : Checkpoints
        Where state, best weights and history go.
    optimisation : Optimisation
        The optimiser, its schedule, and how often to validate and save.
    class_weights : float32 tensor, shape (k,)
        w_c of eq. (2); of affinities two for each offset.
    place : Place
        Device and team.
    state : TrainingState, optional
        From ``checkpoints.load_state``.

    Returns
    -------
    TrainingState
        After the last step, or after the one where patience ended; ``best`` names the
        best weights.

    Raises
    ------
    Interrupted
        After SIGTERM, SIGINT or SIGUSR1; the step was finished and its state saved.
    DataError
        If the loss is no longer finite.
    """
    o, device, team = optimisation, place.device, place.team
    _lay_out(network, device, o.precision)
    optimizer, averaged = _go_on(network, o, state)
    parts = (network, optimizer, averaged, validator, checkpoints, state)
    journal = Journal(*parts, team=team, board=place.board)
    team.agree_on_step(journal.step)
    # Of all patches of an average step, whichever process has them.
    step_weight = o.batch_size * sampler.average_weight(class_weights.numpy())
    weigh = (class_weights.to(device), torch.tensor(step_weight, device=device))
    module = team.wrap(network)
    batches = prefetch(
        range(journal.step, journal.step if _is_stale(journal, o, team) else o.steps),
        lambda step: _drawn(sampler, step, team.share(o.batch_size), device),
        depth=NUM_AHEAD,
    )
    with (
        closing(journal),
        closing(batches),
        told_to_stop(*STOP_SIGNALS) as stop,
        Progress("training", o.steps, "step", done=journal.step) as progress,
    ):
        for step, patches in batches:
            rate = learning_rate_at(step, o)
            about = f"a step on {len(patches)} patches"
            with enough_device_memory(about, SMALLER_STEPS):
                batch = sampler.render(patches, device)
                loss = _backward(module, batch, network.spec, weigh, o, team)
                _descend(optimizer, rate, o.gradient_clip)
            if team.is_first:
                averaged.update(network, step + 1)
            journal.record(step + 1, loss, rate)
            if is_scored := o.is_scored_after(step + 1):
                journal.validate()
            is_stale = is_scored and _is_stale(journal, o, team)
            if is_stopped := team.any(stop.is_set()):
                journal.save()
            journal.save_if_due(o.checkpoint_every)
            if team.is_first:
                show_training_progress(progress, journal)
            if is_stopped:
                raise Interrupted(
                    f"stopped by a signal after step {step + 1} of {o.steps}; the "
                    f"state is in {checkpoints.folder}: repeat the command to go on"
                )
            if is_stale:
                break
    journal.save()
    if not o.is_scored_after(journal.step):
        journal.validate()  # not saved: more steps would not have scored here
    return journal.state()


def _drawn(
    sampler: PatchSampler, step: int, indices: range, device: torch.device
) -> list[Patch]:
    """Draw patches in the sampler's thread, ready for their way to the device."""
    patches = sampler.batch(step, indices)
    return [p.pinned() for p in patches] if device.type == "cuda" else patches


def _lay_out(network: UNet, device: torch.device, precision: str) -> None:
    layout = layout_of_maps(network.spec, device, precision)
    network.to(device, memory_format=layout).train()  # type: ignore[call-overload]


def _go_on(
    network: UNet, optimisation: Optimisation, state: TrainingState | None
) -> tuple[torch.optim.Optimizer, AveragedWeights]:
    """Load a state, if there is one; return the optimiser and the mean of weights."""
    learning = (weights for weights in network.parameters() if weights.requires_grad)
    optimizer = make_optimizer(learning, optimisation)
    if state is None:
        return optimizer, AveragedWeights(optimisation.averaging)
    network.load_state_dict(state.network)
    optimizer.load_state_dict(state.optimizer)
    mean = state.averaged, state.num_averaged
    return optimizer, AveragedWeights(optimisation.averaging, *mean)


def _backward(
    module: nn.Module,
    batch: Batch,
    spec: UNetSpec,
    weigh: tuple[Tensor, Tensor],
    optimisation: Optimisation,
    team: Team,
) -> Tensor:
    """Compute the gradients of the team's loss; return the loss.

    The loss is the energy of eq. (1) of all patches of the step, whichever process has
    them, over the weight of an average step. ``weigh`` is w_c of each class, and that
    weight.
    """
    layout = layout_of_maps(spec, batch.image.device, optimisation.precision)
    image = batch.image.contiguous(memory_format=layout)
    reduced = optimisation.precision == "bf16"
    with torch.autocast(image.device.type, torch.bfloat16, enabled=reduced):
        logits = module(image, batch.seeds)
    class_weights, step_weight = weigh
    if spec.has_affinities:
        energy, _ = affinity_energy(logits, batch.target, class_weights, spec)
    else:
        weights = voxel_weights(batch.target, batch.border, class_weights)
        energy, _ = weighted_cross_entropy(logits, batch.target, weights, spec)
    loss = mean_loss(energy, step_weight)
    module.zero_grad(set_to_none=True)
    # A team's gradients are averaged, and the loss wants their sum.
    (loss * team.size).backward()  # type: ignore[no-untyped-call]
    return mean_loss(team.sum(energy.detach().clone()), step_weight)


def _descend(
    optimizer: torch.optim.Optimizer, rate: float, gradient_clip: float | None
) -> None:
    """Move the weights down the gradient."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        if gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(group["params"], gradient_clip)
    optimizer.step()


def _is_stale(journal: Journal, optimisation: Optimisation, team: Team) -> bool:
    """Say whether the last ``patience`` validations brought nothing better.

    It follows from steps alone, and changes only where the rows are scored, so that a
    resumed training decides alike. The first few of ``auto`` do not count.
    """
    if optimisation.patience is None:
        return False
    best = journal.best.step if journal.best else 0
    every = optimisation.validation_interval
    num_since = journal.step // every - best // every
    return team.any(team.is_first and num_since >= optimisation.patience)


def layout_of_maps(
    spec: UNetSpec, device: torch.device, precision: str
) -> torch.memory_format:
    """Return the faster memory layout of feature maps for a step of training.

    Channels innermost; but channel by channel in 32 bits on a processor whose widest
    registers are AVX2, for there the library has no fast kernel for the gradient of the
    weights of channels innermost. A narrow network, and three dimensions, gain nothing.

    Parameters
    ----------
    spec : UNetSpec
    device : torch.device
    precision : "fp32" or "bf16"
    """
    if spec.ndim == 3:
        return torch.channels_last_3d
    is_plain = device.type == "cpu" and precision == "fp32"
    is_avx2 = torch.backends.cpu.get_cpu_capability() == "AVX2"
    if is_plain and is_avx2 and spec.base_channels >= LEAST_CHANNELS:
        return torch.contiguous_format
    return torch.channels_last
