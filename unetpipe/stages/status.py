"""Rule status: how far a run is that goes on in another shell or on other nodes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unetpipe.report.run_state import (
    StepState,
    clock_of,
    prediction_state,
    record_state,
    training_state,
)
from unetpipe.runtime.text import describe_quantity, describe_seconds, format_table

HEADER = ("network", "volume", "step", "state", "done", "rate", "left", "")


def status(
    *,
    volumes: list[str],
    networks: list[dict[str, Any]],
    results: Path,
    logs: Path,
    outdated: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Print how far each step is. Reads records, receipts and logs; changes nothing.

    Parameters
    ----------
    volumes : list of str
        Names of the volumes.
    networks : list of dict
        ``model``, ``steps`` and ``volumes`` of each network, and the ``rule`` that
        makes it.
    results, logs : Path
        Folders of the run.
    outdated : mapping
        Records that do not answer what is asked today: in words, why.
    """
    now = clock_of(results)
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
    ]
    for network in networks:
        model = network["model"]
        states.append(_made(results, logs, now, network))
        for volume in network["volumes"]:
            states.append(_after_training(results, logs, now, model, volume))
    known = [_outdated(state, results, outdated) for state in states]
    print(format_table(HEADER, [_row(state) for state in known]))
    for told in outdated.values():
        print(f"{told}: the next run makes it again")


def _outdated(
    state: StepState, results: Path, outdated: Mapping[str, str]
) -> StepState:
    """Return the state of a step; one is not done if it was done for other settings."""
    place = (state.network or "volumes", *filter(None, [state.volume]))
    if state.state != "done" or not any(
        Path(record).parent == results.joinpath(*place) for record in outdated
    ):
        return state
    return replace(state, state="outdated")


def _made(results: Path, logs: Path, now: float, network: dict[str, Any]) -> StepState:
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


def _after_training(
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


def _row(state: StepState) -> tuple[str, ...]:
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
