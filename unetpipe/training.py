"""The training loop: plain, one screen, resumable to the bit.

Whatever is random in step k is seeded by (seed, k): patches, augmentation, dropout. So
the state to save is the weights, the momentum and k.
"""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import cos, isfinite, pi
from types import FrameType
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from unetpipe.augmentation import seeded_generator
from unetpipe.checkpoints import Best, Checkpoints, TrainingState
from unetpipe.errors import DataError
from unetpipe.history import History, HistoryRow
from unetpipe.loss import mean_loss, voxel_weights, weighted_cross_entropy
from unetpipe.model import UNet
from unetpipe.pipeline import prefetch
from unetpipe.sampling import Batch, PatchSampler
from unetpipe.validation import Validator, is_better

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
SECONDS_BETWEEN_LINES = 30.0
# Losses stay on the device for so many steps: reading one waits for the GPU.
STEPS_BETWEEN_READS = 20
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
    seed: int = 0


class Interrupted(Exception):
    """A signal stopped the training; its state is saved."""


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
    with closing(batches), _stop_signals() as stop, Progress(o.steps) as progress:  # type: ignore[type-var]
        for step, patches in batches:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, o)
            torch.manual_seed(seeded_generator(o.seed, step).initial_seed())
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
            progress.show(journal)
            if stop.is_set():
                raise Interrupted(
                    f"stopped by a signal after step {step + 1} of {o.steps}; the "
                    f"state is in {checkpoints.folder}: repeat the command to go on"
                )
    journal.save()
    if o.steps % o.validate_every:
        journal.validate()  # not saved: more steps would not have scored here
    return journal.state()


class Journal:
    """What a training leaves behind: history, best weights, state.

    Parameters
    ----------
    network, optimizer
        In training; brought to the state, if there is one.
    validator : Validator or None
        Scores the validation rows.
    checkpoints : Checkpoints
        The state folder.
    state : TrainingState or None
        Where training goes on.
    """

    def __init__(
        self,
        network: UNet,
        optimizer: torch.optim.Optimizer,
        validator: Validator | None,
        checkpoints: Checkpoints,
        state: TrainingState | None,
    ) -> None:
        self._network, self._optimizer = network, optimizer
        self._validator, self._checkpoints = validator, checkpoints
        self.step = 0
        self.best: Best | None = None
        self.last_loss = float("nan")
        self._seconds_before = 0.0
        self._resumed_at: list[int] = []
        self._saved_step = 0
        if state is not None:
            network.load_state_dict(state.network)
            optimizer.load_state_dict(state.optimizer)
            self.step = self._saved_step = state.step
            self.best = state.best
            self._seconds_before = state.seconds
            self._resumed_at = [*state.resumed_at, state.step]
        self._began = time.monotonic()
        self._pending: list[tuple[int, Tensor, float, float]] = []
        self._history = History(checkpoints.folder / "history.csv", keep=self.step)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, interruptions not counted."""
        return self._seconds_before + time.monotonic() - self._began

    def record(self, step: int, loss: Tensor, learning_rate: float) -> None:
        """Note a step; its loss is read from the device some steps later."""
        self.step = step
        self._pending.append((step, loss, learning_rate, self.seconds))
        if len(self._pending) >= STEPS_BETWEEN_READS:
            self._flush()

    def validate(self) -> None:
        """Score the network as it is now, and keep it if it is the best."""
        if self._validator is None:
            return
        self._flush()
        score = self._validator.score(self._network)
        self._network.train()
        old = self.best.score if self.best else None
        log.info(
            "step %d: %s %.4f on the validation rows (best so far %s)",
            self.step,
            self._validator.metric,
            score.score,
            "none" if old is None else f"{old:.4f}",
        )
        if is_better(self._validator.metric, score.score, old):
            weights = self._network.state_dict()
            self.best = Best(
                step=self.step,
                score=score.score,
                thresholds=score.thresholds,
                scores=score.scores,
                file=self._checkpoints.save_best(weights, self.step),
            )
        self._history.amend_last(
            seconds=self.seconds,
            validation=score.score if isfinite(score.score) else None,
            threshold=score.threshold,
        )

    def save(self) -> None:
        """Save the state, unless it is saved already."""
        self._flush()
        if self.step > self._saved_step:
            self._checkpoints.save_state(self.state())
            self._saved_step = self.step

    def state(self) -> TrainingState:
        """Return the state after the last recorded step."""
        return TrainingState(
            step=self.step,
            network=self._network.state_dict(),
            optimizer=self._optimizer.state_dict(),
            seconds=self.seconds,
            threads=torch.get_num_threads(),
            best=self.best,
            resumed_at=self._resumed_at,
        )

    def _flush(self) -> None:
        """Write the noted steps to the history."""
        rows = []
        for step, loss, rate, seconds in self._pending:
            self.last_loss = float(loss)
            if not isfinite(self.last_loss):
                raise DataError(
                    f"the loss is {self.last_loss} after step {step}; lower "
                    f"training.learning_rate (now {rate:g}), raise "
                    "training.warmup_steps, or set training.gradient_clip to 1"
                )
            rows.append(HistoryRow(step, self.last_loss, rate, seconds))
        self._history.append(rows)
        self._pending.clear()


class Progress:
    """A bar on a terminal; elsewhere a log line now and then."""

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self._bar = tqdm(total=num_steps, unit="step", disable=None)
        self._first: tuple[int, float] | None = None
        self._logged = time.monotonic()

    def __enter__(self) -> "Progress":
        """Show the bar."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def show(self, journal: Journal) -> None:
        """Show how far training is."""
        now = time.monotonic()
        self._first = self._first or (journal.step, now)
        self._bar.n = journal.step
        self._bar.set_postfix(loss=f"{journal.last_loss:.4f}", refresh=False)
        self._bar.update(0)
        if self._bar.disable and now - self._logged > SECONDS_BETWEEN_LINES:
            self._logged = now
            rate = (journal.step - self._first[0]) / max(now - self._first[1], 1e-9)
            log.info(
                "step %d of %d, loss %.4f, %.2f steps a second, %.0f minutes left",
                journal.step,
                self._num_steps,
                journal.last_loss,
                rate,
                (self._num_steps - journal.step) / max(rate, 1e-9) / 60,
            )


def _energy(
    network: UNet, batch: Batch, class_weights: Tensor, precision: str
) -> tuple[Tensor, Tensor]:
    """Return the energy of eq. (1) on a batch, and the weight it sums over."""
    image = batch.image.contiguous(memory_format=_layout(network))
    with torch.autocast(image.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits = network(image)
    weights = voxel_weights(batch.target, batch.border, class_weights)
    return weighted_cross_entropy(logits, batch.target, weights, network.spec)


def _layout(network: UNet) -> torch.memory_format:
    """Return the faster memory layout of feature maps: channels innermost."""
    flat = network.spec.ndim == 2
    return torch.channels_last if flat else torch.channels_last_3d


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn signals that ask the process to end into an event, while training runs."""
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread receives signals
        return
    before = {number: signal.signal(number, ask_to_stop) for number in STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
