"""What a prediction or a training will cost, from shapes alone: no voxel is read.

Before anything was measured the rate is assumed, and said to be.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any, Protocol

from unetpipe.runtime.text import count_noun
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.grids import count_tiles, plan_grids
from unetpipe.tiling.orientations import choose_orientations
from unetpipe.tiling.part_memory import project_part
from unetpipe.tiling.patch_size import Patch, choose_patch
from unetpipe.tiling.resampling import matched_shape, scaled_size, size_at
from unetpipe.tiling.scale import SizeNm
from unetpipe.tiling.tile_size import (
    CPU_MEMORY_GB,
    TileCandidate,
    project_tile,
    rank_tiles,
)
from unetpipe.tiling.unet_spec import UNetSpec

# ASSUME: where nothing was measured yet. CPU is one processor, "in bf16" where it has
# that; all are about half of what the benchmarks reached, or less.
ASSUMED_FLOP_PER_SECOND = {"cpu": 3e10, "cpu in bf16": 6e10, "cuda": 2e13}
ASSUMED_GPU_GB = 56.0
# ASSUME: stores become at least so many times smaller (labels and masks: far more).
LEAST_COMPRESSION = {"image": 1.0, "probability": 1.5, "labels": 10.0, "border": 4.0}
PYRAMID = 4 / 3
# Forward, and twice as much backward.
PASSES_OF_A_STEP = 3


@dataclass(frozen=True, slots=True)
class Volume:
    """What is known of a volume before it is stored.

    ``known_from`` says whether that is its record, a file's header, or the
    configuration; ``voxel_size_nm`` is None where nobody does. ``num_labelled`` are the
    voxels of boxes of labels; None: labels are of the whole volume.
    """

    name: str
    shape: Zyx
    num_channels: int
    itemsize: int
    known_from: str
    voxel_size_nm: SizeNm | None = None
    num_labelled: int | None = None

    @property
    def num_voxels(self) -> int:
        """Voxels of one channel."""
        return prod(self.shape)

    def at_scale(self, factor: float, ndim: int) -> "Volume":
        """Return the volume with so many voxels for each one, along a network's axes.

        Examples
        --------
        >>> Volume("a", (9, 512, 512), 1, 1, "file header").at_scale(0.5, 2).shape
        (9, 256, 256)
        """
        own = self.voxel_size_nm or (1.0, 1.0, 1.0)
        shape = matched_shape(self.shape, own, size_at(factor, own, ndim), ndim)
        size_nm = self.voxel_size_nm and scaled_size(own, self.shape, shape)
        return replace(self, shape=shape, voxel_size_nm=size_nm)

    @property
    def num_bytes(self) -> int:
        """Bytes of the image, as stored without compression."""
        return self.num_voxels * self.num_channels * self.itemsize

    def bytes_to_store(self, *, has_labels: bool, is_trained_on: bool) -> float:
        """Return what ingesting it takes of the disk."""
        needed = self.num_bytes / LEAST_COMPRESSION["image"] * PYRAMID
        labelled = self.num_voxels if self.num_labelled is None else self.num_labelled
        needed += has_labels * 4 * labelled / LEAST_COMPRESSION["labels"]
        if is_trained_on:
            needed += 4 * labelled / LEAST_COMPRESSION["border"]
            needed += labelled / LEAST_COMPRESSION["labels"]
        return needed


@dataclass(frozen=True, slots=True)
class Rate:
    """FLOP a second, and where that number comes from."""

    flop_per_second: float
    known_from: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one prediction takes.

    Attributes
    ----------
    stride : (z, y, x)
        What a tile keeps.
    num_tiles, num_blocks, num_shards, num_parts : int
        Pieces of the work.
    num_files : int
        Shards and receipts, of the coarser levels and of the segmentation too.
    flop : int
        Halo included.
    bytes_read, bytes_written : int
        Before compression.
    peak_rss_bytes : int
        Of one part.
    disk_bytes : float
        Prediction and segmentation.
    seconds : float
        Of all parts together.
    rate_from : str
        Where the speed comes from.
    """

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

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration says of predictions, as far as it costs something."""

    precision: str
    device: str
    memory_gb: float | None
    stride: Zyx | None
    average: int | Sequence[int]
    block_shards: Zyx
    num_parts: int
    roi: Sequence[Sequence[int]] | None = None


class ProbedTile(Protocol):
    """The tile that a probe has chosen, as its record says."""

    @property
    def stride(self) -> Zyx:
        """What it keeps."""

    @property
    def orientations(self) -> tuple[int, ...]:
        """That are averaged."""

    @property
    def projected_activation_bytes(self) -> int:
        """Of one tile."""

    @property
    def batch_tiles(self) -> int:
        """Tiles in one forward pass."""

    @property
    def device(self) -> str:
        """That ran it."""


def forecast_prediction(
    volume: Volume,
    spec: UNetSpec,
    wanted: Wanted,
    rate: Rate,
    probe: "ProbedTile | None" = None,
    num_members: int = 1,
) -> Forecast:
    """Return what a prediction takes.

    Parameters
    ----------
    volume : Volume
        What is predicted.
    spec : UNetSpec
        The network.
    wanted : Wanted
        Of the configuration.
    rate : Rate
        Of the device.
    probe : ProbedTile, optional
        ``probe.json``; without it the tile is chosen as the probe would choose it if
        its largest one ran.
    num_members : int
        Networks of an ensemble.
    """
    if probe:
        stride, orientations = probe.stride, probe.orientations
        activation, batch = probe.projected_activation_bytes, probe.batch_tiles
        device = probe.device.partition(" ")[0]
    else:
        orientations, batch, device = (
            choose_orientations(wanted.average),
            1,
            wanted.device,
        )
        tile = _choose_tile(volume.shape, spec, wanted, orientations)
        stride, activation = tile.stride, tile.tile_bytes
    grids = plan_grids(volume.shape, stride, spec, block_shards=wanted.block_shards)
    num_tiles = count_tiles(grids, wanted.roi)
    share = num_tiles / grids.num_tiles
    passes = len(orientations) * num_members
    flop = num_tiles * passes * spec.flop(grids.input_shape)
    stored = spec.num_stored
    halo = prod(n + h for n, h in zip(grids.block, spec.halo.total, strict=True))
    read = volume.num_bytes * halo / prod(grids.block)
    disk = volume.num_voxels * PYRAMID * stored / LEAST_COMPRESSION["probability"]
    disk += volume.num_voxels * PYRAMID * (1 + 4) / LEAST_COMPRESSION["labels"]
    outputs = 1 if spec.num_classes == 2 else 2
    files = grids.num_shards * (1 + outputs * PYRAMID + 2 * PYRAMID)
    return Forecast(
        stride=stride,
        num_tiles=num_tiles,
        num_blocks=grids.num_blocks,
        num_shards=grids.num_shards,
        num_parts=wanted.num_parts,
        num_files=int(files),
        flop=flop,
        bytes_read=int(share * read),
        bytes_written=int(share * volume.num_voxels * stored),
        peak_rss_bytes=project_part(
            grids,
            spec,
            device=device,
            itemsize=volume.itemsize,
            batch_tiles=batch,
            orientations=orientations,
            activation_bytes=activation,
            num_members=num_members,
        ),
        disk_bytes=share * disk,
        seconds=flop / rate.flop_per_second,
        rate_from=rate.known_from,
    )


def assume_rate(device: str, threads: int, *, in_bf16: bool = False) -> Rate:
    """Return a guess at FLOP a second, for want of a measurement.

    Parameters
    ----------
    device : "cpu" or "cuda"
        Kind of device.
    threads : int
        Of a CPU.
    in_bf16 : bool
        Whether a CPU computes in bf16, and has instructions for it.
    """
    if device == "cuda":
        return Rate(ASSUMED_FLOP_PER_SECOND[device], "assumed for a GPU")
    kind = "cpu in bf16" if in_bf16 else "cpu"
    told = f"assumed for {count_noun(threads, 'thread')}{' in bf16' * in_bf16}"
    return Rate(ASSUMED_FLOP_PER_SECOND[kind] * threads, told)


def measured_rate(
    flop_per_tile: int, seconds_per_tile: float, parts: Sequence[tuple[int, float]] = ()
) -> Rate:
    """Return the FLOP a second of a probe, or of the parts that followed it.

    Parameters
    ----------
    flop_per_tile, seconds_per_tile
        Of the probe.
    parts : sequence of (tiles, seconds)
        Of each part.
    """
    tiles, seconds = (sum(part[k] for part in parts) for k in (0, 1))
    if tiles and seconds:
        return Rate(tiles * flop_per_tile / seconds, "last receipts")
    return Rate(flop_per_tile / seconds_per_tile, "probe")


def training_flop(
    spec: UNetSpec, patch: Patch, batch_size: int, sections: list[Zyx]
) -> int:
    """Return the FLOP of one training step, validation left out."""
    shape = choose_patch(patch, spec, sections)
    return PASSES_OF_A_STEP * batch_size * spec.flop(shape)


def _choose_tile(
    shape: Zyx, spec: UNetSpec, wanted: Wanted, orientations: Sequence[int]
) -> TileCandidate:
    kind: dict[str, Any] = {
        "precision": wanted.precision,
        "device": wanted.device,
        "orientations": orientations,
    }
    if wanted.stride is not None:
        return project_tile(wanted.stride, shape, spec, **kind)
    ranked = rank_tiles(shape, spec, **kind)
    usual = CPU_MEMORY_GB if wanted.device == "cpu" else ASSUMED_GPU_GB
    budget = (wanted.memory_gb or usual) * 2**30
    smallest = min(ranked, key=lambda c: c.tile_bytes)
    return next((c for c in ranked if c.tile_bytes <= budget), smallest)
