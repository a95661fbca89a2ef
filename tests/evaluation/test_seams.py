"""Jumps across the faces of tiles, blocks and parts, against those inside."""

from unittest import mock

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.network.test_exact_tiling import he_network, image_of
from tests.oracles import predict_volume
from unetpipe.evaluation.seams import STRIP_VOX, SeamJumps, choose_seam_shards
from unetpipe.network.predictor import TilePredictor
from unetpipe.tiling.boxes import Halo, grid_cell, iterate_grid, whole_volume
from unetpipe.tiling.grids import TileGrids, plan_grids
from unetpipe.tiling.unet_spec import UNetSpec


def grids(shape, *, stride, shard, block):
    return TileGrids(shape, stride, (1, 8, 8), (1, 4, 4), shard, block)


def measure(stored, geometry, *, grid=(1, 4, 4), num_parts=2):
    """Measure a volume of stored probability, (z, y, x) or (c, z, y, x)."""
    stored = stored if stored.ndim == 4 else stored[None]
    jumps = SeamJumps(geometry, grid, num_parts)
    shards = list(iterate_grid(whole_volume(geometry.volume_shape), geometry.shard))
    for index in shards:
        shard = grid_cell(index, geometry.shard, geometry.volume_shape)
        jumps.add(shard, stored[(slice(None), *jumps.read_roi(shard).slices)])
    return jumps


def row(jumps, kind, axis):
    (found,) = [
        r for r in jumps.report(num_shards=1).rows if (r.face, r.axis) == (kind, axis)
    ]
    return found


@pytest.fixture
def geometry():
    """Two sections of 4 x 6 tiles, 2 x 3 shards, 1 x 3 blocks."""
    return grids((2, 32, 48), stride=(1, 8, 8), shard=(2, 16, 16), block=(2, 32, 16))


def test_steps_at_tile_faces_are_told_from_the_slope_inside(geometry):
    """Up 1 a voxel along x, and 10 more at each tile face."""
    x = np.arange(48)
    stored = np.broadcast_to(x + 10 * (x // 8), (2, 32, 48)).astype(np.uint8)
    jumps = measure(stored, geometry)
    found = row(jumps, "tile", "x")
    assert found.jump_across == pytest.approx(11 / 255)
    assert found.jump_inside == pytest.approx(1 / 255)
    assert found.ratio == pytest.approx(11)
    assert found.is_like_inside is False
    assert found.n == 2 * 5  # shards along y, faces
    flat = row(jumps, "tile", "y")
    assert (flat.jump_across, flat.ratio) == (0, None)


def test_the_profile_peaks_at_the_face(geometry):
    x = np.arange(48)
    stored = np.broadcast_to(x + 10 * (x // 8), (2, 32, 48)).astype(np.uint8)
    profile = measure(stored, geometry).report(num_shards=1).profiles["x"]
    assert list(profile.distance) == [*range(-7, 8)]  # up to the faces of the volume
    expected = [11 / 255 if d == 0 else 1 / 255 for d in range(-7, 8)]
    assert profile.jump == pytest.approx(expected)


def test_a_pattern_within_the_pooling_grid_is_no_seam(geometry):
    """Up-convolutions leave a pattern that repeats every pooling grid."""
    y, x = np.mgrid[:32, :48]
    stored = np.broadcast_to(100 * (x % 4 == 0) + 20 * (y % 4 > 1), (2, 32, 48))
    jumps = measure(stored.astype(np.uint8), geometry)
    for axis in "yx":
        assert row(jumps, "tile", axis).ratio == pytest.approx(1)
        assert row(jumps, "tile", axis).is_like_inside is True


def test_blocks_and_parts_have_faces_of_their_own(geometry):
    x = np.arange(48)
    stored = np.broadcast_to(x + 50 * (x // 32), (2, 32, 48)).astype(np.uint8)
    jumps = measure(stored, geometry, num_parts=3)
    assert row(jumps, "block", "x").ratio == pytest.approx((1 + 51) / 2)
    assert row(jumps, "part", "x").n == row(jumps, "block", "x").n == 4
    two = row(measure(stored, geometry, num_parts=2), "part", "x")
    assert two.n == 2, "blocks 1 and 2 are one part"
    assert two.ratio == pytest.approx(1)
    assert row(jumps, "block", "y").n == 0


@pytest.mark.parametrize("num_parts", [1, 2, 3, 7, 12, 20])
def test_a_voxel_belongs_to_the_part_that_computes_its_block(num_parts):
    geometry = grids((6, 8, 24), stride=(1, 4, 8), shard=(2, 4, 8), block=(2, 4, 8))
    jumps = SeamJumps(geometry, (1, 4, 4), num_parts)
    for part in range(num_parts):
        for number in geometry.blocks_of_part(part, num_parts):
            assert jumps._part(geometry.block_roi(number).start) == part


def test_sections_of_neighbouring_blocks_are_compared_along_z():
    geometry = grids((8, 8, 8), stride=(1, 8, 8), shard=(4, 8, 8), block=(4, 8, 8))
    z = np.arange(8)
    stored = np.broadcast_to((2 * z + 30 * (z // 4))[:, None, None], (8, 8, 8))
    jumps = measure(stored.astype(np.uint8), geometry, num_parts=1)
    assert row(jumps, "block", "z").ratio == pytest.approx(16)
    assert row(jumps, "tile", "z").n == 0, "each section is a tile"


def test_a_face_between_sections_is_one_whole_however_many_shards_it_spans():
    """Sections differ as wholes: strips of one pair of them are no evidence."""
    cell = (4, 8, 8)
    geometry = grids((12, 16, 24), stride=(1, 8, 8), shard=cell, block=cell)
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 24)).astype(np.uint8)
    found = row(measure(noise, geometry), "block", "z")
    jump = np.abs(np.diff(noise.astype(int), axis=0))[[3, 7]].mean() / 255
    assert found.n == 2
    assert found.jump_across == pytest.approx(jump)
    assert found.ratio is not None
    assert found.interval is found.is_like_inside is None, "too few to judge"


def test_faces_are_cut_into_strips():
    shape = (1, 300, 16)
    geometry = grids(shape, stride=(1, 300, 8), shard=(1, 300, 16), block=(1, 300, 16))
    noise = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    found = row(measure(noise, geometry), "tile", "x")
    assert found.n == 3 == -(-300 // STRIP_VOX)
    jump = np.abs(np.diff(noise.astype(int), axis=2))[0, :, 7].mean() / 255
    assert found.jump_across == pytest.approx(jump)


def test_the_jump_of_two_classes_is_that_of_one():
    geometry = grids((1, 8, 16), stride=(1, 8, 8), shard=(1, 8, 16), block=(1, 8, 16))
    one = np.random.default_rng(0).integers(0, 255, (1, 8, 16)).astype(np.uint8)
    both = measure(np.stack([one, 255 - one]), geometry)
    assert both.report(num_shards=1) == measure(one, geometry).report(num_shards=1)


def test_a_volume_of_one_tile_has_no_faces():
    geometry = grids((1, 8, 8), stride=(1, 8, 8), shard=(1, 8, 8), block=(1, 8, 8))
    report = measure(np.zeros((1, 8, 8), np.uint8), geometry).report(num_shards=1)
    assert all(profile.distance == () for profile in report.profiles.values())
    assert [r.n for r in report.rows] == [0] * 9
    assert all(r.ratio is r.interval is None for r in report.rows)


def test_a_few_shards_spread_over_the_volume_are_measured():
    geometry = grids((9, 8, 40), stride=(1, 4, 4), shard=(1, 4, 4), block=(1, 4, 4))
    chosen = choose_seam_shards(geometry, most=10)
    assert len(chosen) == len(set(chosen)) == 10
    assert chosen[0] == (0, 0, 0)
    assert chosen[-1] == (8, 1, 9)
    assert len(choose_seam_shards(geometry, most=1000)) == 9 * 2 * 10


# A tiler that is broken on purpose: with He-initialised weights, as the laws of tiling
# are tested, because the library's own leave the deep path too weak to show.

SPEC = UNetSpec(base_channels=4, depth=2)
SHAPE = (4, 200, 200)


def drawn_image(seed):
    smooth = ndimage.gaussian_filter(image_of(SHAPE, seed=seed), (0, 0, 1.5, 1.5))
    return 5 * smooth


def predicted(stride, seed):
    torch.set_num_threads(1)
    geometry = plan_grids(SHAPE, (1, stride, stride), SPEC)
    predictor = TilePredictor(he_network(SPEC, seed))
    return predict_volume(predictor, drawn_image(seed), geometry), geometry


def ratios(stored, geometry):
    jumps = measure(stored, geometry, grid=SPEC.pooling_grid)
    return [row(jumps, "tile", axis) for axis in "yx"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_faces_of_exact_tiles_are_like_the_inside(seed):
    for found in ratios(*predicted(40, seed)):
        assert found.is_like_inside is True
        assert abs(found.ratio - 1) < 0.05


def predicted_tile_by_tile(stride, seed):
    """Invent the halo by mirroring at each tile, though real neighbours are there."""
    torch.set_num_threads(1)
    geometry = plan_grids(SHAPE, (1, stride, stride), SPEC)
    predictor, image = TilePredictor(he_network(SPEC, seed)), drawn_image(seed)
    stored = np.zeros(image.shape, np.uint8)
    for y in range(0, SHAPE[1], stride):
        for x in range(0, SHAPE[2], stride):
            tile = np.s_[:, :, y : y + stride, x : x + stride]
            alone = plan_grids(image[tile].shape[1:], (1, stride, stride), SPEC)
            stored[tile] = predict_volume(predictor, image[tile], alone)
    return stored, geometry


def test_the_number_rises_where_halos_are_invented():
    exact, broken = ratios(*predicted(40, 0)), ratios(*predicted_tile_by_tile(40, 0))
    for good, bad in zip(exact, broken, strict=True):
        assert bad.is_like_inside is False
        assert bad.ratio > good.ratio + 0.1


def test_the_number_rises_where_tiles_leave_the_pooling_grid():
    """Edge to edge: 42 is 2 modulo 4, as the paper's 388 is 4 modulo 16.

    Untrained networks have a strong pattern within the grid, which a broken grid may
    also blur: in others the ratio falls. What tells is that 1 is outside the interval.
    """
    exact = ratios(*predicted(40, 0))
    with (
        mock.patch.object(TileGrids, "check_against"),
        mock.patch.object(UNetSpec, "input_shape_for", return_value=(1, 84, 84)),
        mock.patch.object(UNetSpec, "halo", Halo((0, 20, 20), (0, 22, 22))),
    ):
        broken = ratios(*predicted(42, 0))
    for good, bad in zip(exact, broken, strict=True):
        assert bad.is_like_inside is False
        assert bad.ratio > good.ratio + 0.2
