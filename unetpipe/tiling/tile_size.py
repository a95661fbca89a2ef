"""Which tile a network sees: the fastest of the legal ones that fit the memory.

Large tiles compute less halo; small ones keep their feature maps in the caches. A
forward pass is projected as its FLOP plus its traffic, weighed by how many FLOP the
device does while it moves a byte. The weights are fixed numbers for a kind of device,
so that the same configuration always gives the same tile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from unetpipe.tiling.boxes import Zyx, grid_shape
from unetpipe.tiling.grids import axis_strides
from unetpipe.tiling.orientations import ORIENTATIONS, strides_in_frames
from unetpipe.tiling.unet_spec import UNetSpec

# Values of one feature map that the convolutions of a GPU count with 32 bits: beyond it
# their fast algorithms do not work, and the others are slow or ask for absurd memory.
LARGEST_MAP_VALUES = 2**31 - 1
# What the activations of a pass may take on a CPU, where nobody says.
CPU_MEMORY_GB = 4.0
# ASSUME: of int8 all but the first and last maps have one byte.
BYTES_PER_VALUE = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 2}
# FLOP that a device does while it moves a byte of a feature map, while it prepares one
# weight, and while it starts a pass. CPU: least squares over 80 forward passes of 16 to
# 64 channels and 252 to 2236 voxels (one core of a Zen 5 with AVX-512 bf16), which they
# reproduce within 10 %. ASSUME: half the rates of an H200's data sheet on a GPU.
FLOP_PER_BYTE = {
    ("cpu", "fp32"): 8.0,
    ("cpu", "bf16"): 40.0,
    ("cpu", "fp16"): 40.0,
    ("cpu", "int8"): 40.0,  # ASSUME: as bf16
    ("cuda", "fp32"): 12.0,
    ("cuda", "bf16"): 200.0,
    ("cuda", "fp16"): 200.0,
}
FLOP_PER_WEIGHT = {"cpu": 400.0, "cuda": 1000.0}
FLOP_PER_PASS = {"cpu": 4e9, "cuda": 3e11}
# Memory that is kept for the next pass (machine.keep_freed_memory, torch's allocator of
# a GPU) has gaps between feature maps; measured 1.3 to 2.2 on a CPU.
GAPS = {"cpu": 2.2, "cuda": 1.3}


@dataclass(frozen=True, slots=True)
class TileCandidate:
    """A tile stride and what is projected of it.

    Attributes
    ----------
    stride : (z, y, x)
        What a tile keeps.
    input_shapes : tuple of (z, y, x)
        What the network sees: one shape, or a pair where some orientations turn a
        tile that is not square.
    efficiency : float
        Projected: FLOP without halo over the cost of all tiles of the volume, edges
        included. The reciprocal of time, in other words.
    tile_bytes : int
        Projected activations of one tile.
    map_values : int
        Values of its largest feature map.
    """

    stride: Zyx
    input_shapes: tuple[Zyx, ...]
    efficiency: float
    tile_bytes: int
    map_values: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "stride": list(self.stride),
            "input_shapes": [list(shape) for shape in self.input_shapes],
            "projected_efficiency": self.efficiency,
            "projected_activation_bytes": self.tile_bytes,
        }


def rank_tiles(
    volume_shape: Zyx,
    spec: UNetSpec,
    *,
    precision: str = "fp32",
    device: str = "cpu",
    orientations: Sequence[int] = (0,),
    batch_tiles: int = 1,
) -> list[TileCandidate]:
    """Return all tiles worth considering for a volume, fastest first.

    On a GPU only those whose feature maps have at most ``LARGEST_MAP_VALUES`` values,
    if there are any.

    Parameters
    ----------
    volume_shape : (z, y, x)
        Strides that cut an axis into equal numbers of tiles differ only in waste, so
        the smallest of each number is kept. y and x may differ: a wide strip pays
        halo on one axis only.
    spec : UNetSpec
        The network.
    precision, device : str
        ``fp32``, ``bf16`` or ``fp16``; ``cpu`` or ``cuda``.
    orientations : sequence of int
        Of the passes that are averaged; each keeps to the pooling grid of its frame.
    batch_tiles : int
        Tiles of a forward pass, at least.
    """
    grid = _common_grid(spec, orientations)
    per_axis = [
        _worthwhile(
            axis_strides(n, g, is_tiled=axis > 0 or spec.ndim == 3),
            n,
            spec.halo.total[axis],
        )
        for axis, (n, g) in enumerate(zip(volume_shape, grid, strict=True))
    ]
    found = [
        project_tile(
            (z, y, x),
            volume_shape,
            spec,
            precision=precision,
            device=device,
            orientations=orientations,
        )
        for z in per_axis[0]
        for y in per_axis[1]
        for x in per_axis[2]
    ]
    if device == "cuda":
        most = LARGEST_MAP_VALUES // batch_tiles
        counted = [c for c in found if c.map_values <= most]
        found = counted or [min(found, key=lambda c: (c.map_values, c.stride))]
    return sorted(found, key=lambda c: (-c.efficiency, prod(c.stride), c.stride))


def project_tile(
    stride: Zyx,
    volume_shape: Zyx,
    spec: UNetSpec,
    *,
    precision: str,
    device: str,
    orientations: Sequence[int],
) -> TileCandidate:
    """Return what is projected of one tile stride."""
    laid = [ORIENTATIONS[number].lay(stride) for number in orientations]
    shapes = tuple(
        spec.input_shape_for(s) for s in strides_in_frames(stride, orientations)
    )
    cost = sum(
        forward_cost(spec, spec.input_shape_for(s), precision, device) for s in laid
    )
    num_tiles = prod(grid_shape(volume_shape, stride))
    useful = _flop_per_voxel(spec) * prod(volume_shape) * len(laid)
    return TileCandidate(
        stride,
        shapes,
        useful / (num_tiles * cost),
        max(activation_bytes(spec, shape, precision, device) for shape in shapes),
        max(largest_map(spec, shape) for shape in shapes),
    )


@lru_cache(maxsize=2**16)
def forward_cost(
    spec: UNetSpec, input_shape: Zyx, precision: str, device: str
) -> float:
    """Return the projected cost of one forward pass, in FLOP of a busy device."""
    flop, moved, previous = 0, 0, spec.in_channels * prod(input_shape)
    for layer in spec.layers(input_shape):
        values = layer.num_values
        flop += layer.flop
        moved += previous + values
        if layer.kind == "conv":
            moved += 2 * values  # ReLU
        if layer.kind == "up":
            moved += 4 * values  # read its two parts, write the concatenation
            values *= 2
        previous = values
    return (
        flop
        + moved * BYTES_PER_VALUE[precision] * FLOP_PER_BYTE[device, precision]
        + _num_parameters(spec) * FLOP_PER_WEIGHT[device]
        + FLOP_PER_PASS[device]
    )


@lru_cache(maxsize=2**16)
def largest_map(spec: UNetSpec, input_shape: Zyx) -> int:
    """Return the values of the largest feature map, concatenations included."""
    return max(
        spec.in_channels * prod(input_shape),
        *(
            layer.num_values * (2 if layer.kind == "up" else 1)
            for layer in spec.layers(input_shape)
        ),
    )


def activation_bytes(
    spec: UNetSpec, input_shape: Zyx, precision: str, device: str
) -> int:
    """Return the projected memory of all feature maps that live at once."""
    values = spec.peak_activation_values(input_shape)
    return int(GAPS[device] * values * BYTES_PER_VALUE[precision])


def _worthwhile(strides: list[int], length: int, halo: int) -> list[int]:
    """Leave out strides that a shorter one beats in computing less along its axis."""
    kept, least = [], float("inf")
    for stride in strides:
        computed = -(-length // stride) * (stride + halo)
        if computed < least:
            kept.append(stride)
            least = computed
    return kept


def _common_grid(spec: UNetSpec, orientations: Sequence[int]) -> Zyx:
    """Return the pooling grid of all frames (its numbers are powers of two)."""
    z, y, x = spec.pooling_grid
    if any(ORIENTATIONS[number].is_turned for number in orientations):
        y = x = max(y, x)
    return z, y, x


# Asked for once a candidate, of one network.
@lru_cache(maxsize=8)
def _flop_per_voxel(spec: UNetSpec) -> float:
    return spec.flop_per_voxel


@lru_cache(maxsize=8)
def _num_parameters(spec: UNetSpec) -> int:
    return spec.num_parameters
