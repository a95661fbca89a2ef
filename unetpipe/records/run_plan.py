"""What a run would take, before it is started: ``plan.json`` of a run."""

from typing import Any

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.tiling.boxes import Zyx


class PlannedVolume(Value):
    """A volume, as far as it is known."""

    name: str
    shape: Zyx
    num_channels: int
    itemsize: int
    known_from: str


class Disk(Value):
    """Bytes that a run needs, and that are free."""

    needed_bytes: float
    free_bytes: int


class RunPlan(Record):
    """``plan.json`` of a run."""

    WHAT = "the plan of a run"

    volumes: tuple[PlannedVolume, ...]
    missing: dict[str, str]
    problems: tuple[str, ...]
    trainings: tuple[dict[str, Any], ...]
    """What each network takes to train."""
    predictions: tuple[dict[str, Any], ...]
    """``model`` and ``volume``, and the forecast."""
    num_jobs: int
    disk: Disk
    circumstances: Circumstances
