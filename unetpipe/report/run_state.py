"""How far a run is, from what it leaves behind: records, receipts, histories, logs.

Works from another shell or node, and after a death: nothing is asked of the run itself.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from unetpipe.errors import DataError
from unetpipe.records import Record
from unetpipe.records.lots import LOT_RULES, LotJournal
from unetpipe.records.prediction import Prediction, PredictionPlan
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.locks import is_held
from unetpipe.runtime.logs import last_error_in_log
from unetpipe.runtime.text import describe_quantity, describe_seconds
from unetpipe.training.history import read_history

# Without a sign of life for so long a job that holds no claim is not running.
SECONDS_OF_SILENCE = 120.0
HEADER = ("network", "volume", "step", "state", "done", "rate", "left", "")
# The rate is that of the newest receipts and steps.
NEWEST = 100

Kind = TypeVar("Kind", bound=Record)


@dataclass(frozen=True, slots=True)
class StepState:
    """How far one step of a run is.

    Attributes
    ----------
    network, volume : str
        Which; empty where a step has none.
    step : str
        Name of its rule.
    state : str
        done, running, failed, stopped, or waiting.
    done, total : int
        Of ``unit``; 0 where a step is not counted.
    unit : str
        step or shard.
    rate : float or None
        Units a second: steps, or voxels for shards.
    seconds_left : float or None
        At that rate.
    note : str
        The error of a failed step, the loss of a training.
    """

    network: str
    volume: str
    step: str
    state: str
    done: int = 0
    total: int = 0
    unit: str = ""
    rate: float | None = None
    seconds_left: float | None = None
    note: str = ""


def clock_of(folder: Path) -> float:
    """Return the time on the clock that dates files in a folder.

    On a network that is the server's, which may differ from ours by hours.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".clock-") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # not ours to write to
        return time.time()


def record_state(
    record: Path, logs: list[Path], now: float, *, step: str, network: str, volume: str
) -> StepState:
    """Return the state of a step that leaves one record."""
    state, note = "done", ""
    if not record.exists():
        state, note = _unfinished(logs, now)
    return StepState(network, volume, step, state, note=note)


def training_state(
    folder: Path, num_steps: int, log: Path, now: float, *, network: str
) -> StepState:
    """Return the state of a training, by its history.

    Parameters
    ----------
    folder : Path
        Of the network.
    num_steps : int
        That are asked for.
    log : Path
        Of the job.
    now : float
        Of ``clock_of``.
    network : str
        Its name.
    """
    histories = sorted(folder.glob("state/*/history.csv"), key=_modified)
    rows = read_history(histories[-1]) if histories else []
    done = rows[-1].step if rows else 0
    if (folder / "train.json").exists():
        return StepState(network, "", "train_unet", "done", done, num_steps, "step")
    claim = folder / ".state.claim"
    state, note = _unfinished([log], now, signs=histories[-1:], claims=[claim])
    newest = rows[-NEWEST:]
    rate = None
    if len(newest) > 1 and newest[-1].seconds > newest[0].seconds:
        elapsed = newest[-1].seconds - newest[0].seconds
        rate = (newest[-1].step - newest[0].step) / elapsed
    left = (num_steps - done) / rate if rate else None
    if rows and not note:
        note = f"loss {rows[-1].loss:.4f}"
    return StepState(
        network, "", "train_unet", state, done, num_steps, "step", rate, left, note
    )


def prediction_state(
    folder: Path, logs: Path, now: float, *, network: str, volume: str
) -> StepState | None:
    """Return the state of a planned prediction, by its receipts; None without a plan.

    Parameters
    ----------
    folder : Path
        Of the prediction.
    logs : Path
        Folder of the logs of its parts.
    now : float
        Of ``clock_of``.
    network, volume : str
        Their names.
    """
    planned = _read(PredictionPlan, folder / "plan.json")
    if planned is None:
        return None
    geometry, total = planned.geometry, planned.geometry.num_shards
    finished = _read(Prediction, folder / "prediction.json")
    if finished and finished.identity_sha256 == planned.identity_sha256:
        return StepState(network, volume, "predict_part", "done", total, total, "shard")
    times = sorted(_receipt_times(planned.receipts))
    newest = times[-NEWEST:]
    rate, left = None, None
    if len(newest) > 1 and newest[-1] > newest[0]:
        per_shard = prod(geometry.volume_shape) / total
        rate = (len(newest) - 1) * per_shard / (newest[-1] - newest[0])
        left = (total - len(times)) * per_shard / rate
    files = sorted(logs.glob("*.log"))
    claims = list((folder / "parts").glob(".*.claim"))
    state, note = _unfinished(files, now, claims=claims, times=newest[-1:])
    return StepState(
        *(network, volume, "predict_part", state, len(times), total, "shard"),
        *(rate, left, note),
    )


def outdated_state(
    state: StepState, results: Path, outdated: Mapping[str, str]
) -> StepState:
    """Return the state of a step; one is not done if it was done for other settings."""
    place = (state.network or "volumes", *filter(None, [state.volume]))
    if state.state != "done" or not any(
        Path(record).parent == results.joinpath(*place) for record in outdated
    ):
        return state
    return replace(state, state="outdated")


def lot_states(lot: Mapping[str, Any], now: float) -> list[StepState]:
    """Return how far a lot of volumes is, and which of them failed.

    Parameters
    ----------
    lot : mapping
        ``name``, ``model`` (empty before any network), ``rule``, ``record``, ``log``
        and the ``steps`` of each volume.
    now : float
        Of ``clock_of``.
    """
    record, network, rule = Path(lot["record"]), lot["model"], lot["rule"]
    journal = LotJournal.read(record.with_suffix(".jsonl"))
    wanted = {(volume, step) for volume, of in lot["steps"].items() for step in of}
    done = sum(not journal.ended[k].error for k in wanted & journal.ended.keys())
    state, note = "done", ""
    if not record.exists():
        claims = [record.with_name(f".{record.stem}.claim")]
        state, note = _unfinished([Path(lot["log"])], now, claims=claims)
    failed = [
        StepState(network, volume, step.step, "failed", note=_first_line(step.error))
        for volume, step in journal.failed.items()
        if (volume, step.step) in wanted
    ]
    if failed and state == "failed":
        note = f"{len(failed)} of {len(lot['steps'])} volumes failed"
    name = f"lot {lot['name']}"
    whole = StepState(network, name, rule, state, done, len(wanted), "step", note=note)
    return [whole, *failed]


def run_states(
    volumes: Iterable[str],
    networks: Iterable[dict[str, Any]],
    lots: Sequence[Mapping[str, Any]],
    *,
    results: Path,
    logs: Path,
) -> list[StepState]:
    """Return how far each step of a run is; see the rule ``status``."""
    now = clock_of(results)
    shared = {(lot["model"], volume) for lot in lots for volume in lot["steps"]}
    states = [
        record_state(
            results / "volumes" / volume / "ingest.json",
            [logs / "ingest_volume" / f"{volume}.log"],
            now,
            step="ingest_volume",
            network="",
            volume=volume,
        )
        for volume in volumes
        if ("", volume) not in shared
    ]
    for lot in lots:
        if not lot["model"]:
            found = lot_states(lot, now)
            states += [one for one in found if not _is_mended(one, lot, results)]
    for network in networks:
        model = network["model"]
        states.append(model_state(results, logs, now, network))
        for lot in lots:
            if lot["model"] == model:
                states += lot_states(lot, now)
        for volume in network["volumes"]:
            if (model, volume) not in shared:
                states.append(volume_state(results, logs, now, model, volume))
    return states


def _is_mended(state: StepState, lot: Mapping[str, Any], results: Path) -> bool:
    """Tell whether a volume that a lot could not store has been stored since.

    The lot of a prediction tries it again, and notes that in a journal of its own.
    """
    journal = Path(lot["record"]).with_suffix(".jsonl")
    stored = results / "volumes" / state.volume / "ingest.json"
    return (
        state.state == "failed"
        and state.step not in LOT_RULES
        and stored.exists()
        and _modified(stored) > _modified(journal)
    )


def failed_volumes(states: Iterable[StepState]) -> list[StepState]:
    """Return at which steps volumes failed, each once for a network.

    What a network failed to do again is not told of the volume alone.
    """
    failed = [
        one
        for one in states
        if one.state == "failed" and one.volume and one.step not in LOT_RULES
    ]
    again = {one.volume for one in failed if one.network}
    return [one for one in failed if one.network or one.volume not in again]


def model_state(
    results: Path, logs: Path, now: float, network: dict[str, Any]
) -> StepState:
    """Return how far a network's training is, or how else it is made."""
    model, rule = network["model"], network["rule"]
    log = logs / rule / f"{model}.log"
    if rule != "train_unet":
        return record_state(
            results / model / "model.json",
            [log],
            now,
            step=rule,
            network=model,
            volume="",
        )
    return training_state(results / model, network["steps"], log, now, network=model)


def warnings_of(
    results: Path, volumes: Iterable[str], networks: Iterable[dict[str, Any]]
) -> Iterator[str]:
    """Yield what is odd of images, and of what was made of them, as far as it is known.

    Parameters
    ----------
    results : Path
        Folder of the run.
    volumes : iterable of str
        Their names.
    networks : iterable of dict
        ``model`` and ``volumes`` of each.
    """
    for name in volumes:
        volume = _read(IngestedVolume, results / "volumes" / name / "ingest.json")
        for odd in volume.odd_sections if volume else ():
            yield f"{name}: {odd.brief}"
    for network in networks:
        model = network["model"]
        for name in network["volumes"]:
            folder = results / model / name
            plan = _read(PredictionPlan, folder / "plan.json")
            made = _read(Segmentation, folder / "segmentation.json")
            told = (*(plan.warnings if plan else ()), *(made.warnings if made else ()))
            yield from (f"{name} by {model}: {warning}" for warning in told)


def volume_state(
    results: Path, logs: Path, now: float, model: str, volume: str
) -> StepState:
    """Return the step that a prediction has reached."""
    names = {"network": model, "volume": volume}
    folder = results / model / volume
    predicting = prediction_state(
        folder, logs / "predict_part" / model / volume, now, **names
    )
    steps = {
        "probe_prediction": folder / "probe.json",
        "plan_prediction": folder / "plan.json",
    }
    if predicting is not None:
        if predicting.done < predicting.total:
            return predicting
        steps = {
            "finish_prediction": folder / "prediction.json",
            "finish_segmentation": folder / "segmentation.json",
        }
    state = None
    for step, record in steps.items():
        log = logs / step / model / f"{volume}.log"
        state = record_state(record, [log], now, step=step, **names)
        if state.state != "done":
            break
    assert state is not None
    return state


def show_state(state: StepState) -> tuple[str, ...]:
    """Return a state as the cells of ``HEADER``."""
    is_going = state.state == "running"
    unit = "vox/s" if state.unit == "shard" else "steps/s"
    return (
        *(state.network, state.volume, state.step, state.state),
        f"{state.done} of {state.total} {state.unit}s" if state.total else "",
        describe_quantity(state.rate, unit) if state.rate and is_going else "",
        describe_seconds(state.seconds_left)
        if state.seconds_left is not None and is_going
        else "",
        state.note,
    )


def _unfinished(
    logs: Sequence[Path],
    now: float,
    *,
    signs: Sequence[Path] = (),
    claims: Sequence[Path] = (),
    times: Sequence[float] = (),
) -> tuple[str, str]:
    """Return the state of a step without its record, and the error if there is one."""
    if any(map(is_held, claims)):
        return "running", ""
    errors = [error for log in logs if (error := last_error_in_log(log))]
    if errors:
        is_told = all(error.startswith("Interrupted") for error in errors)
        return ("stopped" if is_told else "failed"), errors[0]
    seen = [_modified(path) for path in (*logs, *signs) if path.exists()]
    if not seen and not times:
        return "waiting", ""
    silence = now - max(*seen, *times, 0.0)
    if silence < SECONDS_OF_SILENCE:
        return "running", ""
    return "stopped", f"no sign of life for {silence / 60:.0f} min; repeat the command"


def _receipt_times(folder: Path) -> Iterator[float]:
    """Yield when each receipt was written."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as layers:
        for layer in layers:
            if layer.is_dir():
                with os.scandir(layer) as entries:
                    for entry in entries:
                        if entry.name.endswith(".json") and entry.name[0] != ".":
                            yield entry.stat().st_mtime


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _read(kind: type[Kind], path: Path) -> Kind | None:
    """Return a record, None where it is not there or just being replaced."""
    try:
        return kind.read(path)
    except DataError:
        return None
