"""Training state that survives kill -9, a full disk and a flipped bit.

::

    state/1f0c9a2e/                    one folder a recipe
        recipe.json                    what the eight digits stand for
        history.csv
        state-00000400-<sha>.pt        weights, momentum, step; the last two are kept
        state-00000600-<sha>.pt
        best-00000500-<sha>.safetensors

A file is written beside its name, synced, renamed, and its name carries the first 16
digits of its sha256: one rename publishes content and checksum together.
"""

import hashlib
import logging
from dataclasses import asdict, dataclass, field, fields, replace
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from unetpipe.errors import IdentityError, IntegrityError
from unetpipe.network.weights import pack_weights
from unetpipe.records.training import FormerRecipe
from unetpipe.runtime.files import (
    hash_of,
    write_bytes_atomic,
)

log = logging.getLogger(__name__)

NUM_KEPT = 2


@dataclass(frozen=True, slots=True)
class Best:
    """The checkpoint that scored best on the validation rows.

    Attributes
    ----------
    step : int
        After which it was taken.
    score : float
        Of the metric that chooses.
    thresholds, scores : dict
        Where each metric was best, and what it then was.
    file : str
        Name of the weights in the state folder.
    is_averaged : bool
        Whether they are the mean of the weights of many steps.
    """

    step: int
    score: float
    thresholds: dict[str, float]
    scores: dict[str, float]
    file: str
    is_averaged: bool = False


@dataclass(slots=True)
class TrainingState:
    """All that going on needs; random numbers follow from the step alone.

    Attributes
    ----------
    step : int
        Steps done.
    network, optimizer : dict
        Their state.
    averaged, num_averaged
        The mean of the weights of so many steps.
    seconds : float
        Of training, interruptions not counted.
    threads, processes : int
        Used for the last step, by each process; another number changes fp32 bits.
    device : str
        Kind of the device of the last step; "" in states of before it was noted.
    best : Best or None
        The best checkpoint so far.
    resumed_at : list of int
        Steps after which training was interrupted.
    """

    step: int
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    averaged: dict[str, Tensor] = field(default_factory=dict)
    num_averaged: int = 0
    seconds: float = 0.0
    threads: int = 1
    processes: int = 1
    device: str = ""
    best: Best | None = None
    resumed_at: list[int] = field(default_factory=list)


class Checkpoints:
    """The state folder of one recipe.

    Parameters
    ----------
    folder : Path
        Holds one folder for each recipe that was ever trained.
    identity : dict
        The recipe: all that the trained bits depend on. Another recipe gets another
        folder; what differs from the others is logged.
    is_writer : bool
        Of several processes one writes, the others only read.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], *, is_writer: bool = True
    ) -> None:
        self.identity_hash = hash_of(identity)
        self.folder = folder / self.identity_hash[:8]
        self._kept_best: str | None = None
        if not is_writer:
            return
        recipe = self.folder / "recipe.json"
        if not recipe.exists():
            _log_differences(folder, identity)
            FormerRecipe(**identity).write(recipe)
        for torn in self.folder.glob(".*"):  # a kill while writing leaves its half
            torn.unlink()

    def save_best(self, network: dict[str, Tensor], step: int) -> str:
        """Save weights that may become the result; return the file's name."""
        return self._publish(f"best-{step:08d}", ".safetensors", pack_weights(network))

    def read_best(self, best: Best) -> bytes:
        """Return the bytes of the best weights, verified."""
        return self._read_verified(self.folder / best.file)

    def save_state(self, state: TrainingState) -> None:
        """Save the state, then drop what neither of the last two states needs.

        States after this step stay, with their weights: they are of a longer training
        by the same recipe, which may be asked for again.
        """
        values = {f.name: getattr(state, f.name) for f in fields(state)}
        values["best"] = asdict(state.best) if state.best else None
        values["identity"] = self.identity_hash
        buffer = BytesIO()
        torch.save(values, buffer)
        self._publish(f"state-{state.step:08d}", ".pt", buffer.getbuffer())
        until_now = [p for p in self._states() if _step_of(p) <= state.step]
        for path in until_now[:-NUM_KEPT]:
            path.unlink()
        best = state.best.file if state.best else None
        if len(self._states()) <= NUM_KEPT:
            for path in self.folder.glob("best-*"):
                # Weights of later steps may have been saved since the state was taken.
                is_needed = path.name in (best, self._kept_best)
                if not is_needed and _step_of(path) <= state.step:
                    path.unlink()
        self._kept_best = best

    def load_state(self, *, last_step: int) -> TrainingState | None:
        """Return the newest whole state, or None where training begins.

        A damaged state is passed over with a warning, for the one before it.

        Parameters
        ----------
        last_step : int
            States after this step are not used: the recipe now asks for fewer steps.

        Raises
        ------
        IdentityError
            If a state was put here that belongs to another recipe.
        """
        for path in reversed(self._states()):
            try:
                values = _unpack_state(self._read_verified(path))
                best = values["best"] and Best(**values["best"])
                if best:
                    self.read_best(best)
            except (IntegrityError, FileNotFoundError) as error:
                log.warning("%s; going back to the state before it", error)
                continue
            self._check_identity(path, values.pop("identity"))
            if values["step"] <= last_step:
                self._kept_best = best.file if best else None
                return TrainingState(**{**values, "best": best})
        return None

    def _states(self) -> list[Path]:
        return sorted(self.folder.glob("state-*.pt"))

    def _publish(self, stem: str, suffix: str, content: bytes | memoryview) -> str:
        name = f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
        write_bytes_atomic(self.folder / name, content)
        return name

    def _read_verified(self, path: Path) -> bytes:
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()[:16]
        if found != path.stem.rsplit("-", 1)[1]:
            raise IntegrityError(
                f"{path} has sha256 {found}..., not the one in its name; the file is "
                "damaged: delete it"
            )
        return content

    def _check_identity(self, path: Path, found: str) -> None:
        if found != self.identity_hash:
            raise IdentityError(
                f"{path} belongs to recipe {found[:8]}, this training is "
                f"{self.identity_hash[:8]}; move the file to the folder it came from"
            )


def _step_of(path: Path) -> int:
    return int(path.name.split("-")[1])


def copy_to_host(state: TrainingState) -> TrainingState:
    """Return a copy that further steps do not change, in the memory of the host."""
    return replace(
        state,
        network=_copied(state.network),
        optimizer=_copied(state.optimizer),
        averaged=_copied(state.averaged),
    )


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copied(inner) for inner in value]
    return value


def describe_differences(old: Any, new: Any, key: str = "") -> list[str]:
    """List what differs between two recipes: ``key: old -> new``, one line each.

    Examples
    --------
    >>> describe_differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    ['a.c: 2 -> 3']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for name in sorted(old.keys() | new.keys()):
            inner = f"{key}.{name}" if key else str(name)
            lines += describe_differences(old.get(name), new.get(name), inner)
        return lines
    return [] if old == new else [f"{key}: {old} -> {new}"]


def _unpack_state(content: bytes) -> dict[str, Any]:
    try:
        values: dict[str, Any] = torch.load(
            BytesIO(content), map_location="cpu", weights_only=True
        )
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise IntegrityError(
            f"a training state holds more than tensors and numbers, or is none "
            f"({str(error).splitlines()[0]}); delete it"
        ) from error
    return values


def _log_differences(folder: Path, identity: dict[str, Any]) -> None:
    for other in sorted(folder.glob("*/recipe.json")):
        lines = describe_differences(FormerRecipe.read(other).to_json(), identity)
        log.info(
            "another recipe than %s, so training begins anew: %s",
            other.parent.name,
            "; ".join(lines),
        )
