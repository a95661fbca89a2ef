"""The grids nest: each voxel is written once, each tile computed once, in one block."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles import whole_section_input
from unetpipe.errors import GeometryError
from unetpipe.storage.growing_arrays import parts_of_shards
from unetpipe.tiling.boxes import as_zyx, whole_volume
from unetpipe.tiling.grids import (
    TileGrids,
    candidate_strides,
    plan_grids,
)
from unetpipe.tiling.unet_spec import UNetSpec

SPECS = {
    "2d": UNetSpec(depth=2, base_channels=2),
    "3d": UNetSpec(ndim=3, depth=2, base_channels=2, pooling=((1, 2, 2), (2, 2, 2))),
}
volumes = st.tuples(st.integers(1, 12), st.integers(1, 90), st.integers(1, 90))


@st.composite
def geometries(draw):
    spec = SPECS[draw(st.sampled_from(sorted(SPECS)))]
    tiles = draw(st.tuples(st.just(1), st.integers(1, 5), st.integers(1, 5)))
    stride = as_zyx(g * n for g, n in zip(spec.pooling_grid, tiles, strict=True))
    block_shards = draw(st.tuples(*[st.integers(1, 3)] * 3))
    return plan_grids(draw(volumes), stride, spec, block_shards=block_shards)


@given(geometry=geometries())
def test_every_voxel_is_written_exactly_once_by_blocks_and_by_shards(geometry):
    by_blocks = np.zeros(geometry.volume_shape, int)
    by_shards = np.zeros(geometry.volume_shape, int)
    indices = []
    for number in range(geometry.num_blocks):
        block = geometry.block_roi(number)
        by_blocks[block.slices] += 1
        for index, shard in geometry.shards(block):
            by_shards[shard.slices] += 1
            indices.append(index)
    assert (by_blocks == 1).all()
    assert (by_shards == 1).all()
    assert len(set(indices)) == len(indices) == geometry.num_shards


@given(geometry=geometries())
def test_each_tile_is_computed_once_in_exactly_one_block(geometry):
    tiles = [
        tile.start
        for number in range(geometry.num_blocks)
        for tile in geometry.tiles(geometry.block_roi(number))
    ]
    assert len(set(tiles)) == len(tiles) == geometry.num_tiles
    for start in tiles:
        assert all(a % s == 0 for a, s in zip(start, geometry.stride, strict=True))


@given(geometry=geometries(), num_parts=st.integers(1, 40))
def test_parts_share_all_blocks_without_overlap(geometry, num_parts):
    shared = [
        number
        for part in range(num_parts)
        for number in geometry.blocks_of_part(part, num_parts)
    ]
    assert shared == list(range(geometry.num_blocks))


@given(shape=volumes, name=st.sampled_from(sorted(SPECS)))
def test_every_candidate_stride_makes_grids_that_nest(shape, name):
    spec = SPECS[name]
    candidates = candidate_strides(shape, spec)
    assert len(set(candidates)) == len(candidates) > 0
    for stride in candidates[:20]:
        geometry = plan_grids(shape, stride, spec)
        assert geometry.input_shape == spec.input_shape_for(stride)


@given(shape=volumes)
def test_the_geometry_survives_json(shape):
    geometry = plan_grids(shape, (1, 8, 12), SPECS["2d"])
    assert TileGrids.from_json(geometry.to_json()) == geometry


def test_tile_efficiency_of_the_paper_counts_the_halo():
    spec = UNetSpec()
    one_tile = plan_grids((1, 384, 384), (1, 384, 384), spec)
    assert one_tile.tile_efficiency(spec) == pytest.approx(
        1.467776e6 * 384 * 384 / 300.856848896e9
    )
    wasteful = plan_grids((1, 400, 384), (1, 384, 384), spec)
    assert wasteful.tile_efficiency(spec) < 0.55 * one_tile.tile_efficiency(spec) + 0.3


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        (
            {"shard": (1, 100, 96)},
            r"shard is 100 voxels along y, not a multiple of the chunk 16; use 96 or",
        ),
        (
            {"block": (1, 96, 100)},
            r"block is 100 voxels along x, not a multiple of the shard 96; use 96 or",
        ),
        (
            {"chunk": (1, 48, 32), "shard": (1, 96, 96)},
            r"tile stride is 32 voxels along y, not a multiple of the chunk 48; use 48",
        ),
    ],
)
def test_grids_that_do_not_nest_are_refused_with_what_would_work(grids, message):
    fitting = {
        "volume_shape": (1, 200, 200),
        "stride": (1, 32, 32),
        "input_shape": (1, 76, 76),
        "chunk": (1, 16, 16),
        "shard": (1, 96, 96),
        "block": (1, 96, 96),
    }
    TileGrids(**fitting)
    with pytest.raises(GeometryError, match=message):
        TileGrids(**(fitting | grids))


def test_a_block_or_part_that_does_not_exist_is_refused():
    geometry = plan_grids((1, 32, 32), (1, 32, 32), SPECS["2d"])
    with pytest.raises(GeometryError, match="block is 1; this volume has"):
        geometry.block_roi(1)
    with pytest.raises(GeometryError, match="part is 2 of 2; use 0 to 1"):
        geometry.blocks_of_part(2, 2)


def test_one_pass_sees_the_volume_rounded_up_to_the_grid_and_the_halo():
    spec = UNetSpec()
    seen = whole_section_input((2, 500, 512), spec)
    assert seen.start == (0, -92, -92)
    assert seen.stop == (2, 512 + 96, 512 + 96)
    assert whole_volume((2, 500, 512)).intersect(seen) == whole_volume((2, 500, 512))


@pytest.mark.parametrize("num_parts", [1, 2, 5, 50])
def test_the_part_of_a_shard_is_the_part_that_computes_its_block(num_parts):
    strides = {"stride": (1, 16, 32), "input_shape": (1, 16, 32)}
    grid = TileGrids(
        (9, 70, 101), **strides, chunk=(1, 16, 32), shard=(2, 32, 32), block=(4, 64, 32)
    )
    for block in range(grid.num_blocks):
        shards = {index for index, _ in grid.shards(grid.block_roi(block))}
        (part,) = parts_of_shards(shards, grid, num_parts)
        assert block in grid.blocks_of_part(part, num_parts)
