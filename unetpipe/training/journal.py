"""What a training leaves behind while it runs: history, best weights, state."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from unetpipe.errors import ConfigError, DataError
from unetpipe.metrics.names import CHOOSING, plain_metric_name
from unetpipe.network.unet import UNet
from unetpipe.runtime.progress import Progress
from unetpipe.training.averaging import AveragedWeights
from unetpipe.training.checkpoints import Best, Checkpoints, TrainingState, copy_to_host
from unetpipe.training.distributed import ALONE, Team
from unetpipe.training.history import History, HistoryRow
from unetpipe.training.validation import Validator, is_better

log = logging.getLogger(__name__)

# Losses stay on the device for so many steps: reading one waits for the GPU.
STEPS_BETWEEN_READS = 20
# With ``checkpoint_every: auto``: what a kill may cost.
SECONDS_BETWEEN_SAVES = 60.0


class Board(Protocol):
    """Where curves are shown while training runs: a ``SummaryWriter``."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Add a point to a curve."""

    def flush(self) -> None:
        """Show what was added."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a network is trained, by whom, and what shows its course.

    Attributes
    ----------
    device : torch.device
        Where to compute.
    team : Team
        The processes that share each step's patches; the first one validates and saves.
    board : Board or None
        Shows losses and scores.
    """

    device: torch.device
    team: Team = ALONE
    board: Board | None = None


def check_board() -> None:
    """Raise ConfigError unless TensorBoard is installed."""
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "training.tensorboard is true, but the package tensorboard is not "
            "installed; run `pip install unetpipe[tensorboard]`, or set it to false"
        )


@contextmanager
def open_board(folder: Path, step: int) -> Iterator[Board]:
    """Open curves for TensorBoard; what they show after ``step`` steps is forgotten."""
    check_board()
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder, purge_step=step + 1) as board:
        yield board


class Journal:
    """What a training leaves behind: history, best weights, state.

    Of several processes the first writes, the others only count.

    Parameters
    ----------
    network, optimizer, averaged
        In training.
    validator : Validator or None
        Scores the validation rows.
    checkpoints : Checkpoints
        The state folder.
    state : TrainingState or None
        Where training goes on.
    team : Team
        The processes.
    board : Board or None
        Gets losses and scores too.
    """

    def __init__(
        self,
        network: UNet,
        optimizer: torch.optim.Optimizer,
        averaged: AveragedWeights,
        validator: Validator | None,
        checkpoints: Checkpoints,
        state: TrainingState | None,
        *,
        team: Team = ALONE,
        board: Board | None = None,
    ) -> None:
        self._network, self._optimizer = network, optimizer
        self._averaged = averaged
        self._validator, self._checkpoints = validator, checkpoints
        self._team, self._board = team, board
        self.step = self._saved_step = state.step if state else 0
        self.best = state.best if state else None
        self.last_loss = float("nan")
        self._seconds_before = state.seconds if state else 0.0
        self._resumed_at = [*state.resumed_at, state.step] if state else []
        self._began = self._saved_at = time.monotonic()
        self._saver = ThreadPoolExecutor(1, "saver")
        self._saving: Future[None] | None = None
        self._pending: list[tuple[int, Tensor, float, float]] = []
        if team.is_first:
            path = checkpoints.folder / "history.csv"
            self._history = History(path, keep=self.step)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, interruptions not counted."""
        return self._seconds_before + time.monotonic() - self._began

    def record(self, step: int, loss: Tensor, learning_rate: float) -> None:
        """Note a step; its loss is read from the device some steps later."""
        self.step = step
        self._pending.append((step, loss, learning_rate, self.seconds))
        if len(self._pending) >= STEPS_BETWEEN_READS:
            self.flush()

    def validate(self) -> None:
        """Score the network as it is now, and keep it if it is the best."""
        if self._validator is None or not self._team.is_first:
            return
        self.flush()
        plain, threshold = self._score(self._network, is_averaged=False)
        mean = self._averaged.network(self._network)
        averaged = self._score(mean, is_averaged=True)[0] if mean else None
        self._history.amend_last(
            seconds=self.seconds,
            validation=plain,
            threshold=threshold,
            averaged=averaged,
        )
        self._show(validation=plain, averaged=averaged)

    def _score(
        self, network: UNet, *, is_averaged: bool
    ) -> tuple[float | None, float | None]:
        assert self._validator is not None
        metric = self._validator.metric
        score = self._validator.score(network)
        old = self.best.score if self.best else None
        log.info(
            "step %d: %s %.4f on the validation rows%s (best so far %s)",
            self.step,
            CHOOSING.get(metric, plain_metric_name(metric)),
            score.score,
            " by the averaged weights" if is_averaged else "",
            "none" if old is None else f"{old:.4f}",
        )
        if is_better(metric, score.score, old):
            self.best = Best(
                step=self.step,
                score=score.score,
                thresholds=score.thresholds,
                scores=score.scores,
                file=self._checkpoints.save_best(network.state_dict(), self.step),
                is_averaged=is_averaged,
            )
        return score.score if isfinite(score.score) else None, score.threshold

    def save_if_due(self, every: int | Literal["auto"]) -> None:
        """Save the state every so many steps, or about once a minute.

        Once a minute it is copied, and saved while training goes on; one at a time.
        """
        if every != "auto":
            if self.step % every == 0:
                self.save()
            return
        if time.monotonic() - self._saved_at < SECONDS_BETWEEN_SAVES:
            return
        self.flush()
        self._wait()
        if self._team.is_first:
            state = copy_to_host(self.state())
            self._saving = self._saver.submit(self._checkpoints.save_state, state)
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def save(self) -> None:
        """Save the state, unless it is saved already, and wait until it is."""
        self.flush()
        self._wait()
        if self.step > self._saved_step and self._team.is_first:
            self._checkpoints.save_state(self.state())
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def close(self) -> None:
        """Wait for what is being saved."""
        self._saver.shutdown()

    def _wait(self) -> None:
        """Wait for the state before; raise what kept it from being saved."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def state(self) -> TrainingState:
        """Return the state after the last recorded step."""
        return TrainingState(
            step=self.step,
            network=self._network.state_dict(),
            optimizer=self._optimizer.state_dict(),
            averaged=self._averaged.weights,
            num_averaged=self._averaged.num_averaged,
            seconds=self.seconds,
            threads=torch.get_num_threads(),
            processes=self._team.size,
            device=next(self._network.parameters()).device.type,
            best=self.best,
            resumed_at=self._resumed_at,
        )

    def flush(self) -> None:
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
        self._pending.clear()
        if not self._team.is_first:
            return
        self._history.append(rows)
        for row in rows:
            self._show(row.step, loss=row.loss, learning_rate=row.learning_rate)

    def _show(self, step: int | None = None, **values: float | None) -> None:
        """Add points to the curves of a board, at the last step or at another."""
        if self._board is None:
            return
        for name, value in values.items():
            if value is not None:
                self._board.add_scalar(name, value, step or self.step)
        self._board.flush()


def show_training_progress(progress: Progress, journal: Journal) -> None:
    """Show how far training is; a line holds the loss as it is now."""
    if progress.is_due:
        journal.flush()
    progress.update(journal.step - progress.done, note=f"loss {journal.last_loss:.4f}")
