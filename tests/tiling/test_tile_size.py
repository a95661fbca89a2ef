"""The fastest tile that fits, by numbers alone."""

from math import prod

import pytest

from tests.variants import mostly_slow
from unetpipe.errors import GeometryError
from unetpipe.runtime.machine import GIB
from unetpipe.tiling.boxes import grid_shape
from unetpipe.tiling.grids import plan_grids
from unetpipe.tiling.tile_size import (
    LARGEST_MAP_VALUES,
    activation_bytes,
    forward_cost,
    rank_tiles,
)
from unetpipe.tiling.unet_spec import UNetSpec

PAPER = UNetSpec()
NARROW = UNetSpec(base_channels=4, depth=2)


def fitting(shape, spec=PAPER, *, gib=4.0, **settings):
    ranked = rank_tiles(shape, spec, **settings)
    return next(c for c in ranked if c.tile_bytes <= gib * GIB)


@pytest.mark.parametrize("side", [1024, 2048, 4096, 5000])
def test_large_sections_waste_little_on_halos(side):
    chosen = fitting((4, side, side), precision="bf16")
    geometry = plan_grids((4, side, side), chosen.stride, PAPER)
    assert geometry.tile_efficiency(PAPER) >= 0.85


def test_the_memory_is_used_but_not_exceeded():
    small, large = (
        fitting((4, 4096, 4096), gib=gib, precision="bf16") for gib in (1, 4)
    )
    assert small.tile_bytes <= GIB < large.tile_bytes <= 4 * GIB
    assert small.efficiency < large.efficiency


def test_edge_tiles_count():
    """A stride of 256 would compute 4 tiles for 260 voxels; one of 272 computes 1."""
    best = rank_tiles((1, 260, 260), PAPER)[0]
    assert best.stride == (1, 272, 272)
    third = fitting((1, 1030, 1030), gib=1.2, precision="bf16")
    assert third.stride != (1, 1024, 1024)
    assert prod(grid_shape((1, 1030, 1030), third.stride)) < 5


def test_tiles_need_not_be_square():
    strip = fitting((1, 160, 2000), gib=1, precision="bf16")
    assert strip.stride == (1, 160, 2000)


def test_a_narrow_strip_beats_a_square_of_equal_memory_only_if_it_wastes_less():
    ranked = rank_tiles((1, 512, 512), PAPER)
    strides = [c.stride for c in ranked]
    assert strides.index((1, 256, 256)) < strides.index((1, 128, 512))


def test_the_choice_is_the_same_every_time():
    shape = (3, 700, 900)
    assert rank_tiles(shape, NARROW) == rank_tiles(shape, NARROW)


def test_every_candidate_keeps_to_the_pooling_grid_and_fits_the_network():
    spec = UNetSpec(ndim=3, base_channels=2, depth=2, pooling=((1, 2, 2), (2, 2, 2)))
    ranked = rank_tiles((9, 50, 70), spec)
    assert len(ranked) > 5
    for candidate in ranked:
        geometry = plan_grids((9, 50, 70), candidate.stride, spec)
        assert candidate.input_shapes == (geometry.input_shape,)


def test_quarter_turns_of_oblong_tiles_have_a_recorded_pair_of_shapes():
    ranked = rank_tiles((1, 96, 160), NARROW, orientations=range(8))
    oblong = next(c for c in ranked if c.stride[1] != c.stride[2])
    z, y, x = oblong.input_shapes[0]
    assert oblong.input_shapes[1] == (z, x, y)
    square = next(c for c in ranked if c.stride[1] == c.stride[2])
    assert len(square.input_shapes) == 1


def test_turned_frames_keep_to_a_pooling_grid_that_differs_along_y_and_x():
    spec = UNetSpec(base_channels=2, depth=2, pooling=((1, 1, 2), (1, 1, 2)))
    plain = rank_tiles((1, 30, 30), spec)
    assert any(c.stride[1] % 4 for c in plain)
    turned = rank_tiles((1, 30, 30), spec, orientations=(0, 1))
    assert all(c.stride[1] % 4 == c.stride[2] % 4 == 0 for c in turned)


def widest(spec, shape):
    """Values of the largest feature map; an up-convolution's is concatenated."""
    return max(
        layer.out_channels * prod(layer.out_shape) * (1 + (layer.kind == "up"))
        for layer in spec.layers(shape)
    )


VOLUMETRIC = UNetSpec(base_channels=32, depth=3, ndim=3)
SAME = UNetSpec(base_channels=32, depth=3, ndim=3, padding="same")
WIDE = UNetSpec(base_channels=256, depth=1)


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((128, 1024, 1024), VOLUMETRIC),
        ((128, 1024, 1024), SAME),
        ((1, 4096, 4096), WIDE),
    ],
)
@pytest.mark.parametrize("batch_tiles", mostly_slow([3, 1]))
def test_a_gpu_gets_no_feature_map_that_32_bits_cannot_count(shape, spec, batch_tiles):
    ranked = rank_tiles(
        shape, spec, precision="bf16", device="cuda", batch_tiles=batch_tiles
    )
    assert ranked
    for candidate in ranked:
        values = [widest(spec, seen) for seen in candidate.input_shapes]
        assert candidate.map_values == max(values)
        assert candidate.map_values * batch_tiles <= LARGEST_MAP_VALUES
    on_cpu = rank_tiles(shape, spec, precision="bf16")
    assert max(c.map_values for c in on_cpu) > LARGEST_MAP_VALUES // batch_tiles


def test_where_every_feature_map_is_too_large_the_smallest_is_taken():
    spec = UNetSpec(base_channels=2**28, depth=1)
    [only] = rank_tiles((1, 600, 600), spec, device="cuda")
    assert only.map_values > LARGEST_MAP_VALUES
    assert only.map_values == min(c.map_values for c in rank_tiles((1, 600, 600), spec))


def test_cost_grows_with_every_part_of_the_work():
    cost = forward_cost(PAPER, (1, 572, 572), "bf16", "cpu")
    assert cost > PAPER.flop((1, 572, 572))
    assert forward_cost(PAPER, (1, 572, 588), "bf16", "cpu") > cost
    fp32 = forward_cost(PAPER, (1, 572, 572), "fp32", "cpu")
    assert activation_bytes(PAPER, (1, 572, 572), "fp32", "cpu") == pytest.approx(
        2 * activation_bytes(PAPER, (1, 572, 572), "bf16", "cpu"), abs=1
    )
    assert fp32 < cost, "in its own FLOP: fp32 waits less for memory"


def test_the_projected_rates_reproduce_what_was_measured():
    """Seconds of one core, bf16, measured: ratios between tiles within 10 %."""
    measured = {(64, 572): 0.753, (64, 1052): 3.028, (32, 572): 0.209, (16, 876): 0.195}
    seconds = {
        (width, side): forward_cost(
            UNetSpec(base_channels=width), (1, side, side), "bf16", "cpu"
        )
        / 500e9
        for width, side in measured
    }
    for key, expected in measured.items():
        assert seconds[key] == pytest.approx(expected, rel=0.1)


def test_an_unlawful_input_is_refused():
    with pytest.raises(GeometryError, match="does not pass"):
        forward_cost(PAPER, (1, 573, 572), "fp32", "cpu")
