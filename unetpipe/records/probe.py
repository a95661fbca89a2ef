"""What real forward passes told before a prediction was planned: ``probe.json``."""

from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.tiling.boxes import Zyx


class TriedTile(Value):
    """A tile that was considered."""

    stride: Zyx
    input_shapes: tuple[Zyx, ...]
    projected_efficiency: float
    projected_activation_bytes: int
    outcome: str
    """``chosen``, ``not tried``, ``too large`` or ``out of memory``."""


class FlipPlace(Value):
    """A tile where labels were compared with those of fp32."""

    tile: Zyx
    flip_fraction: float


class Probe(Record):
    """``probe.json``: the tile, how fast it is, and what its precision flips."""

    WHAT = "the record of a probe"

    seconds_per_tile: float
    voxels_per_second: float
    peak_bytes: int
    memory_budget_bytes: int
    candidates: tuple[TriedTile, ...] = ()
    stride: Zyx
    """What a tile keeps."""
    input_shape: Zyx
    input_shapes: tuple[Zyx, ...]
    """In the frames of all orientations."""
    batch_tiles: int
    orientations: tuple[int, ...]
    threads: int
    device: str
    precision: str
    """That is possible on this device; perhaps not the one that was asked for."""
    backend: str = "torch"
    """What computes the convolutions."""
    calibration_sha256: tuple[str, ...] = ()
    """With int8: of the quantised network, of an ensemble those of its members."""
    is_compiled: bool
    tile_efficiency: float
    projected_efficiency: float
    projected_activation_bytes: int
    flop_per_tile: int
    flip_fraction: float
    flip_places: tuple[FlipPlace, ...] = ()
    circumstances: Circumstances
