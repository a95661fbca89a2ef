"""What a training leaves behind while it runs: history, best weights, state."""

import logging
import time
from math import isfinite

import torch
from torch import Tensor

from unetpipe.checkpoints import Best, Checkpoints, TrainingState
from unetpipe.errors import DataError
from unetpipe.history import History, HistoryRow
from unetpipe.model import UNet
from unetpipe.progress import Progress
from unetpipe.validation import Validator, is_better

log = logging.getLogger(__name__)

# Losses stay on the device for so many steps: reading one waits for the GPU.
STEPS_BETWEEN_READS = 20


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
            self.flush()

    def validate(self) -> None:
        """Score the network as it is now, and keep it if it is the best."""
        if self._validator is None:
            return
        self.flush()
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
        self.flush()
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
        self._history.append(rows)
        self._pending.clear()


def show_progress(progress: Progress, journal: Journal) -> None:
    """Show how far training is; a line holds the loss as it is now."""
    if progress.is_due:
        journal.flush()
    progress.update(journal.step - progress.done, note=f"loss {journal.last_loss:.4f}")
