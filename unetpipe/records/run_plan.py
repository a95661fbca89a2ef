"""What a run would take, before it is started: ``plan.json`` of a run."""

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
    voxel_size_nm: tuple[float, float, float] | None = None
    """None: nobody knows."""
    num_labelled: int | None = None
    """Voxels of boxes of labels; None: labels are of the whole volume."""


class Disk(Value):
    """Bytes that a run needs, and that are free."""

    needed_bytes: float
    free_bytes: int


class PlannedTraining(Value):
    """What the training of one network takes; validation is not counted."""

    model: str
    steps: int
    flop: int
    seconds: float
    rate_from: str


class PlannedPrediction(Value):
    """What one prediction takes; the fields are those of the forecast."""

    model: str
    volume: str
    stride: Zyx
    num_tiles: int
    num_blocks: int
    num_shards: int
    num_parts: int
    num_files: int
    flop: int
    bytes_read: int
    bytes_written: int
    peak_rss_bytes: int
    disk_bytes: float
    seconds: float
    rate_from: str


class WholeRun(Value):
    """What all jobs that are left take together, started processes included."""

    processor_seconds: float
    gpu_seconds: float
    wall_seconds: float
    """On this machine's cores, and one GPU if any is used."""
    num_cores: int
    num_files: int
    """That come to lie there, without folders, logs and pages."""


class RunPlan(Record):
    """``plan.json`` of a run."""

    WHAT = "the plan of a run"

    volumes: tuple[PlannedVolume, ...]
    missing: dict[str, str]
    problems: tuple[str, ...]
    trainings: tuple[PlannedTraining, ...]
    predictions: tuple[PlannedPrediction, ...]
    num_jobs: int
    disk: Disk
    warnings: tuple[str, ...] = ()
    circumstances: Circumstances
    whole: WholeRun | None = None
    """None in a plan of an earlier version."""
