"""What a training leaves behind while it runs: history, best weights, state, a bar."""

import logging
import time
from math import isfinite

import torch
from torch import Tensor
from tqdm import tqdm

from unetpipe.checkpoints import Best, Checkpoints, TrainingState
from unetpipe.errors import DataError
from unetpipe.history import History, HistoryRow
from unetpipe.model import UNet
from unetpipe.validation import Validator, is_better

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0
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
            journal.flush()
            rate = (journal.step - self._first[0]) / max(now - self._first[1], 1e-9)
            log.info(
                "step %d of %d, loss %.4f, %.2f steps a second, %.0f minutes left",
                journal.step,
                self._num_steps,
                journal.last_loss,
                rate,
                (self._num_steps - journal.step) / max(rate, 1e-9) / 60,
            )
