"""A prediction: its plan, its parts, and the whole."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.pyramids import PyramidJob
from unetpipe.runtime.files import hash_of
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.unet_spec import UNetSpec

Interval = tuple[int, int]


class TileRules(Value):
    """Which tiles are left out."""

    model_config = ConfigDict(extra="allow")

    roi: tuple[Interval, Interval, Interval] | None
    """Box that is predicted: start and stop along z, y, x."""
    mask_sha256: str | None
    """Of the file that holds which tiles a mask keeps."""
    empty_value: float | None
    """Tiles that hold nothing brighter stay 0."""
    empty_fraction: float
    """Up to this fraction of a tile's voxels may be brighter."""


class Identity(Value):
    """What decides the stored bits of a prediction.

    Its hash names the store, so it is written as it was read, also in later versions.
    """

    model_config = ConfigDict(extra="allow")

    weights_sha256: str
    spec: dict[str, Any]
    input_sha256: str
    statistics: tuple[tuple[float, float], ...]
    """Mean and standard deviation of each channel."""
    code: str | dict[str, str]
    """Fingerprint of the arithmetic."""
    geometry: dict[str, Zyx]
    """The grids that matter: blocks do not."""
    precision: str
    backend: str = "torch"
    """What computes the convolutions; written where it is another."""
    calibration_sha256: tuple[str, ...] = ()
    """With int8: of the quantised network, of an ensemble those of its members."""
    batch_tiles: int
    is_compiled: bool
    orientations: tuple[int, ...]
    selection: TileRules

    @property
    def sha256(self) -> str:
        """Hash of all of it."""
        return hash_of(self.to_json())

    @property
    def architecture(self) -> UNetSpec:
        """The network's."""
        return UNetSpec.from_json(self.spec)


class Output(Value):
    """A store to fill."""

    store: Path
    channels: tuple[str, ...] | None = None
    """Names of the probabilities; None: classes."""


class Outputs(Value):
    """The stores of one prediction; ``classes`` where there are more than two."""

    probability: Output
    classes: Output | None = None

    @property
    def stores(self) -> dict[str, Path]:
        """The folders of the stores, by name."""
        found = {"probability": self.probability, "classes": self.classes}
        return {name: output.store for name, output in found.items() if output}

    @property
    def home(self) -> Path:
        """The folder that holds them, and their receipts."""
        return self.probability.store.parent

    @property
    def receipts(self) -> Path:
        """The folder of the receipts of shards."""
        return self.home / "receipts"


class Projected(Value):
    """What a prediction will take."""

    peak_rss_bytes: int
    """Of one part."""
    disk_bytes: int
    flop: int
    hours: float
    hours_per_part: float
    num_tiles: int
    tile_efficiency: float


class ProjectedMemory(Value):
    """What a scheduler asks of a projection."""

    peak_rss_bytes: int


class PlannedMemory(Record):
    """The one number of ``plan.json`` that a scheduler asks for, time and again."""

    WHAT = "the plan of a prediction"

    projected: ProjectedMemory


class PredictionPlan(Record):
    """``plan.json``: everything that parts need to know, and the projections."""

    WHAT = "the plan of a prediction"

    volume: str
    ingest: Path
    identity: Identity
    identity_sha256: str
    receipts: Path
    outputs: Outputs
    geometry: TileGrids
    num_blocks: int
    num_parts: int
    threads: int
    precision: str
    device: str
    """As configured: ``auto``, ``cpu`` or ``cuda``."""
    autotune: bool = False
    input_shapes: tuple[Zyx, ...]
    flip_fraction: float
    projected: Projected
    warnings: tuple[str, ...] = ()
    """How the image differs from those that the network has learnt from."""
    circumstances: Circumstances | None = None


class PredictedPart(Record):
    """``parts/<p>.json``: what one part has done."""

    WHAT = "the record of a part of a prediction"

    part: int
    num_parts: int
    identity_sha256: str
    blocks: Interval
    num_computed: int
    num_kept: int
    num_tiles: int
    tiles: dict[str, int]
    """How many were predicted, and how many left out for what reason."""
    num_voxels: int
    seconds_computing: float
    seconds_waiting: float
    circumstances: Circumstances
    seconds: float
    peak_rss_bytes: int


class PartSummary(Value):
    """A part, as the record of the whole has it."""

    part: int
    num_computed: int
    num_kept: int
    num_tiles: int
    tiles: dict[str, int]
    num_voxels: int
    seconds: float
    seconds_computing: float
    seconds_waiting: float
    peak_rss_bytes: int
    host: str
    device: str | None

    @classmethod
    def of(cls, part: PredictedPart) -> "PartSummary":
        """Return the summary of a part's record."""
        shared = {name: getattr(part, name) for name in SHARED}
        made = part.circumstances
        return cls(**shared, host=made.host, device=made.device)


SHARED = PredictedPart.model_fields.keys() & PartSummary.model_fields.keys()


class Prediction(Record):
    """``prediction.json``: a prediction that is whole."""

    WHAT = "the record of a prediction"

    volume: str
    outputs: Outputs
    identity: Identity
    identity_sha256: str
    content_sha256: str
    """Hash of the hashes of all shards."""
    geometry: TileGrids
    precision: str
    flip_fraction: float
    num_shards: int
    num_shards_skipped: int
    tiles: dict[str, int]
    shard_grid: Zyx
    pyramids: tuple[PyramidJob, ...] = ()
    devices: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    parts: tuple[PartSummary, ...] = ()
    circumstances: Circumstances


class ProbabilityMarker(Record):
    """``probability.json``: the shards are there."""

    WHAT = "the record that a probability is there"

    stores: Outputs
    content: str


class DroppedProbability(Record):
    """``dropped.json`` of a volume: the shards were deleted after use."""

    WHAT = "the record of a dropped probability"

    volume: str
    identity_sha256: str
    stores: tuple[Path, ...]
    num_bytes: int
    circumstances: Circumstances


class DroppedNote(Record):
    """``dropped.json`` in the folder of the stores: what was deleted there."""

    WHAT = "the note of dropped shards"

    num_bytes: int
    stores: tuple[str, ...]
