"""Cut a volume into tiles, chunks, shards and blocks that nest.

::

    chunk  |---|---|---|---|---|---|---|---|    what Zarr reads
    tile   |-------|-------|-------|-------|    what one forward pass keeps
    shard  |---------------|---------------|    what Zarr writes
    block  |-------------------------------|    what a job finishes at once

All grids are anchored at the volume's origin. A chunk divides the tile stride, the
stride divides the shard, the shard divides the block (in y and x; along z too), so
that every tile is computed once, in exactly one block.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from unetpipe.errors import GeometryError
from unetpipe.tiling.boxes import (
    AXES,
    Roi,
    Zyx,
    as_zyx,
    grid_cell,
    grid_index,
    grid_number,
    grid_shape,
    iterate_grid,
    range_of_part,
    round_up,
)
from unetpipe.tiling.unet_spec import UNetSpec

LARGEST_CHUNK = 128
SHARD_VOXELS_YX = 1024
SHARD_SECTIONS = 8
# Short stacks have thinner shards, so that jobs can share them.
FEWEST_SHARDS_Z = 8


@dataclass(frozen=True, slots=True)
class TileGrids:
    """The one global tile grid of a volume, and the grids that nest with it.

    Attributes
    ----------
    volume_shape : (z, y, x)
        Voxels of the image and of the prediction.
    stride : (z, y, x)
        What a tile keeps; a multiple of the pooling grid.
    input_shape : (z, y, x)
        What the network sees of each tile, always the same.
    chunk, shard, block : (z, y, x)
        Grids of the store and of the jobs.

    Raises
    ------
    GeometryError
        If the grids do not nest; the message names the axis and the numbers.
    """

    volume_shape: Zyx
    stride: Zyx
    input_shape: Zyx
    chunk: Zyx
    shard: Zyx
    block: Zyx

    def __post_init__(self) -> None:
        """Check that the grids nest."""
        pairs = (
            ("chunk", self.chunk, "shard", self.shard),
            ("tile stride", self.stride, "shard", self.shard),
            ("shard", self.shard, "block", self.block),
        )
        for small_name, small, large_name, large in pairs:
            _check_divides(small_name, small, large_name, large, axes=(0, 1, 2))
        _check_divides("chunk", self.chunk, "tile stride", self.stride, axes=(1, 2))

    def check_against(self, spec: UNetSpec) -> None:
        """Raise GeometryError unless tiles of this grid join without a seam."""
        _check_divides(
            "pooling grid", spec.pooling_grid, "tile stride", self.stride, (0, 1, 2)
        )
        needed = spec.input_shape_for(self.stride)
        if self.input_shape != needed:
            raise GeometryError(
                f"tile input is {self.input_shape} voxels for a stride of "
                f"{self.stride}; use {needed}"
            )

    @property
    def num_blocks(self) -> int:
        """Blocks of the volume."""
        return prod(grid_shape(self.volume_shape, self.block))

    @property
    def num_tiles(self) -> int:
        """Forward passes for the whole volume."""
        return prod(grid_shape(self.volume_shape, self.stride))

    @property
    def num_shards(self) -> int:
        """Stored objects of the whole volume."""
        return prod(grid_shape(self.volume_shape, self.shard))

    def block_roi(self, number: int) -> Roi:
        """Return the write ROI of block ``number``, clipped to the volume."""
        counts = grid_shape(self.volume_shape, self.block)
        if not 0 <= number < prod(counts):
            raise GeometryError(
                f"block is {number}; this volume has blocks 0 to {prod(counts) - 1}"
            )
        return grid_cell(grid_index(number, counts), self.block, self.volume_shape)

    def block_number(self, index: Zyx) -> int:
        """Return the number of the block at a place of the block grid."""
        return grid_number(index, grid_shape(self.volume_shape, self.block))

    def tiles(self, block: Roi) -> Iterator[Roi]:
        """Yield the write ROIs of a block's tiles, not clipped to the volume."""
        for index in iterate_grid(block, self.stride):
            start = as_zyx(i * s for i, s in zip(index, self.stride, strict=True))
            stop = as_zyx(a + s for a, s in zip(start, self.stride, strict=True))
            yield Roi(start, stop)

    def shards(self, block: Roi) -> Iterator[tuple[Zyx, Roi]]:
        """Yield (index, write ROI) of a block's shards, clipped to the volume."""
        for index in iterate_grid(block, self.shard):
            yield index, grid_cell(index, self.shard, self.volume_shape)

    def blocks_of_part(self, part: int, num_parts: int) -> range:
        """Return the block numbers that part ``part`` of ``num_parts`` computes."""
        if not 0 <= part < num_parts:
            raise GeometryError(
                f"part is {part} of {num_parts}; use 0 to {num_parts - 1}"
            )
        return range_of_part(self.num_blocks, part, num_parts)

    def part_of_block(self, number: int, num_parts: int) -> int:
        """Return which of ``num_parts`` parts computes a block."""
        return ((number + 1) * num_parts - 1) // self.num_blocks

    def tile_efficiency(self, spec: UNetSpec) -> float:
        """Return zero-halo FLOP over the FLOP that the tiles of this volume cost."""
        useful = spec.flop_per_voxel * prod(self.volume_shape)
        return useful / (self.num_tiles * spec.flop(self.input_shape))

    def to_json(self) -> dict[str, Any]:
        """Return the grids as plain JSON values."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TileGrids":
        """Return the grids that ``to_json`` described."""
        return cls(**{name: as_zyx(value) for name, value in values.items()})


def plan_grids(
    volume_shape: Zyx, stride: Zyx, spec: UNetSpec, *, block_shards: Zyx = (1, 1, 1)
) -> TileGrids:
    """Lay the nested grids for a tile stride.

    Parameters
    ----------
    volume_shape : (z, y, x)
        Voxels of the volume.
    stride : (z, y, x)
        What each tile keeps; a multiple of the pooling grid.
    spec : UNetSpec
        Gives the tile's input shape.
    block_shards : (z, y, x)
        Shards in a block. Neither this nor anything else here changes a stored bit.
    """
    chunk = as_zyx(
        [
            _sections_per_shard(volume_shape[0], stride[0]),
            *(_largest_divisor(s, LARGEST_CHUNK) for s in stride[1:]),
        ]
    )
    shard = as_zyx(
        [
            chunk[0],
            *(
                min(round_up(n, s), s * max(1, SHARD_VOXELS_YX // s))
                for n, s in zip(volume_shape[1:], stride[1:], strict=True)
            ),
        ]
    )
    block = as_zyx(s * n for s, n in zip(shard, block_shards, strict=True))
    grids = TileGrids(
        volume_shape, stride, spec.input_shape_for(stride), chunk, shard, block
    )
    grids.check_against(spec)
    return grids


def candidate_strides(volume_shape: Zyx, spec: UNetSpec) -> list[Zyx]:
    """Return all tile strides worth considering, most useful FLOP first.

    Strides that cut an axis into equal numbers of tiles differ only in waste, so the
    smallest of each number is kept; y and x may differ (a wide strip pays halo on one
    axis only). Along z a tile is one section in 2-D.
    """
    per_axis = [
        axis_strides(n, g, is_tiled=axis > 0 or spec.ndim == 3)
        for axis, (n, g) in enumerate(zip(volume_shape, spec.pooling_grid, strict=True))
    ]
    strides = [(z, y, x) for z in per_axis[0] for y in per_axis[1] for x in per_axis[2]]

    def cost(stride: Zyx) -> tuple[int, int]:
        num_tiles = prod(grid_shape(volume_shape, stride))
        flop = num_tiles * spec.flop(spec.input_shape_for(stride))
        return flop, prod(stride)

    return sorted(strides, key=cost)


def axis_strides(length: int, grid: int, *, is_tiled: bool = True) -> list[int]:
    """Return the strides worth considering along one axis, shortest first.

    Examples
    --------
    >>> axis_strides(512, 16)[-3:]
    [176, 256, 512]
    """
    if not is_tiled:
        return [1]
    longest = min(round_up(length, grid), 2048)
    counts = range(-(-length // longest), max(2, length // grid) + 1)
    strides = {round_up(-(-length // count), grid) for count in counts}
    return sorted(s for s in strides if s >= min(longest, 4 * grid))


def _sections_per_shard(num_sections: int, stride_z: int) -> int:
    few = -(-num_sections // FEWEST_SHARDS_Z)
    wanted = min(round_up(few, stride_z), SHARD_SECTIONS)
    return stride_z * max(1, wanted // stride_z)


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(min(number, limit), 0, -1) if number % d == 0)


def _check_divides(
    small_name: str, small: Zyx, large_name: str, large: Zyx, axes: tuple[int, ...]
) -> None:
    for axis in axes:
        if small[axis] <= 0 or large[axis] % small[axis]:
            lower = large[axis] // max(small[axis], 1) * small[axis]
            raise GeometryError(
                f"{large_name} is {large[axis]} voxels along {AXES[axis]}, not a "
                f"multiple of the {small_name} {small[axis]}; use "
                f"{lower or small[axis]} or {lower + small[axis]}"
            )


def count_tiles(
    grids: TileGrids,
    roi: Sequence[Sequence[int]] | None = None,
    kept: Any = None,
) -> int:
    """Return how many tiles are predicted, as far as their place tells.

    Parameters
    ----------
    grids : TileGrids
        The tile grid.
    roi : sequence of (start, stop), optional
        A box, along z, y, x.
    kept : bool array, shape of the tile grid, optional
        Tiles that a mask touches.
    """
    box = roi or [(0, n) for n in grids.volume_shape]
    sides = zip(box, grids.volume_shape, grids.stride, strict=True)
    inside = [
        (start // s, max(start // s, -(-min(stop, n) // s)))
        for (start, stop), n, s in sides
    ]
    if kept is not None:
        return int(kept[tuple(slice(*side) for side in inside)].sum())
    return prod(stop - start for start, stop in inside)
