"""Averaging over orientations stays exact under tiling.

The oracle lays whole coordinate grids with NumPy's own rotations, then mirrors them.
"""

import numpy as np
import pytest
import torch

from tests.network.test_exact_tiling import he_network, image_of
from tests.oracles import assert_agree, predict_volume
from unetpipe.errors import GeometryError
from unetpipe.network.predictor import TilePredictor
from unetpipe.tiling.boxes import as_zyx, round_up
from unetpipe.tiling.grids import plan_grids
from unetpipe.tiling.mirroring import mirror_index
from unetpipe.tiling.orientations import (
    ORIENTATIONS,
    Orientation,
    check_stride,
    choose_orientations,
    strides_in_frames,
    widest_halo,
)
from unetpipe.tiling.unet_spec import UNetSpec

SPECS = {
    "paper": UNetSpec(base_channels=2),
    "same_padding": UNetSpec(
        base_channels=2, depth=3, padding="same", normalization="batch", head="sigmoid"
    ),
    "multi_class_multi_channel": UNetSpec(
        base_channels=2, depth=2, num_classes=4, in_channels=3
    ),
    "volumetric": UNetSpec(
        ndim=3, base_channels=2, depth=2, pooling=((1, 2, 2), (2, 2, 2))
    ),
    "pooled_unevenly": UNetSpec(base_channels=3, depth=2, pooling=((1, 1, 2),) * 2),
}


def laid(array, number):
    """Return what orientation ``number`` makes of the last two axes."""
    array = array[..., ::-1] if number >= 4 else array
    return np.rot90(array, number % 4, axes=(-2, -1))


def laid_back(array, number):
    array = np.rot90(array, -(number % 4), axes=(-2, -1))
    return array[..., ::-1] if number >= 4 else array


def one_pass(network, image, number):
    """Mirror-pad the whole section, lay it, one forward, lay it back."""
    spec, shape = network.spec, as_zyx(image.shape[1:])
    grid, before, after = spec.pooling_grid, spec.halo.before, spec.halo.after
    y_grid, x_grid = laid(np.empty((grid[1], grid[2])), number).shape
    sides = (
        round_up(shape[0], grid[0]),
        round_up(shape[1], y_grid),
        round_up(shape[2], x_grid),
    )
    margin = 2 * max(*before, *after)
    y, x = (np.arange(-margin, n + margin) for n in sides[1:])
    y, x = (laid(c, number) for c in np.meshgrid(y, x, indexing="ij"))
    lengths = [n - 2 * margin for n in y.shape]
    cut = tuple(
        slice(margin - before[axis], margin + n + after[axis])
        for axis, n in zip((1, 2), lengths, strict=True)
    )
    mirrored = [
        mirror_index(-margin, n + margin, length)[c[cut] + margin]
        for n, length, c in zip(sides[1:], shape[1:], (y, x), strict=True)
    ]
    z = np.arange(-before[0], sides[0] + after[0])
    z = mirror_index(z[0], z[-1] + 1, shape[0])
    seen = image[:, z][:, :, mirrored[0], mirrored[1]]
    predictor = TilePredictor(network)
    if spec.ndim == 2:
        sections = np.moveaxis(seen, 1, 0)[:, :, None]
        result = predictor.probabilities(sections).numpy()
        result = np.moveaxis(result[:, :, 0], 0, 1)
    else:
        result = predictor.probabilities(seen[None]).numpy()[0]
        result = result[:, spec.output_offset[0] :]
    a, b = spec.output_offset[1:]
    result = result[..., a : a + lengths[0], b : b + lengths[1]]
    return laid_back(result, number)[:, : shape[0], : shape[1], : shape[2]]


def average_of_passes(network, image, numbers):
    return np.mean([one_pass(network, image, n) for n in numbers], axis=0)


def stored_average(network, image, stride, numbers, **settings):
    predictor = TilePredictor(network, orientations=numbers, **settings)
    shape = as_zyx(image.shape[1:])
    return predict_volume(predictor, image, plan_grids(shape, stride, network.spec))


@pytest.mark.parametrize("name", SPECS)
def test_the_average_over_tiles_agrees_with_one_pass_in_each_orientation(name):
    spec = SPECS[name]
    network = he_network(spec)
    side = max(spec.pooling_grid[1:])
    shape = (3 if spec.ndim == 3 else 1, 2 * side + 5, 3 * side + 3)
    image = image_of(shape, spec.in_channels)
    numbers = choose_orientations(8)
    passes = [one_pass(network, image, n) for n in numbers]
    assert min(np.abs(p - passes[0]).max() for p in passes[1:]) > 0.05
    stored = stored_average(
        network, image, (spec.pooling_grid[0], side, 2 * side), numbers
    )
    assert_agree(stored, np.mean(passes, axis=0))


@pytest.mark.parametrize("number", range(8))
def test_each_orientation_alone_agrees_with_its_one_pass(number):
    spec = UNetSpec(base_channels=2, depth=3)
    network = he_network(spec)
    image = image_of((1, 29, 43))
    stored = stored_average(network, image, (1, 8, 16), (number,))
    assert_agree(stored, one_pass(network, image, number))


def test_a_halo_that_does_not_turn_with_the_frame_shows_seams(monkeypatch):
    """The naive average: flip the tile as it lies, keep what lies where it lay."""
    network = he_network(SPECS["paper"])
    image = image_of((1, 40, 40))
    expected = average_of_passes(network, image, (0, 4))
    assert_agree(stored_average(network, image, (1, 16, 16), (0, 4)), expected)
    monkeypatch.setattr(Orientation, "halo", lambda self, halo: halo)
    naive = stored_average(network, image, (1, 16, 16), (0, 4))
    with pytest.raises(AssertionError):
        assert_agree(naive, expected)


def test_a_shifted_crop_alone_would_still_pool_other_cells(monkeypatch):
    """Less naive: crop 4 voxels further, so that voxels match but cells do not."""
    network = he_network(SPECS["paper"])
    image = image_of((1, 40, 40))
    expected = average_of_passes(network, image, (4,))
    monkeypatch.setattr(Orientation, "halo", lambda self, halo: halo)
    monkeypatch.setattr(UNetSpec, "output_offset", (0, 0, 4))
    shifted = stored_average(network, image, (1, 16, 16), (4,))
    monkeypatch.undo()
    with pytest.raises(AssertionError):
        assert_agree(shifted, expected)


def test_the_bits_do_not_depend_on_the_order_of_the_list():
    network = he_network(SPECS["multi_class_multi_channel"])
    image = image_of((1, 20, 24), channels=3)
    orders = ([5, 0, 3], [3, 5, 0])
    one, two = (
        stored_average(network, image, (1, 8, 8), choose_orientations(order))
        for order in orders
    )
    assert np.array_equal(one, two)


def test_the_average_of_all_eight_turns_with_the_image():
    """On a section of whole pooling cells: no orientation is preferred."""
    network = he_network(UNetSpec(base_channels=2, depth=2))
    image = image_of((1, 24, 24))
    stored = stored_average(network, image, (1, 8, 8), choose_orientations(8))
    for number in range(1, 8):
        turned = np.ascontiguousarray(laid(image, number))
        again = stored_average(network, turned, (1, 8, 8), choose_orientations(8))
        difference = laid(stored, number).astype(int) - again
        assert np.abs(difference).max() <= 1
        assert np.count_nonzero(difference) < 0.01 * difference.size


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_averaged_bits_do_not_depend_on_blocks(precision):
    spec = UNetSpec(base_channels=2, depth=2)
    network = he_network(spec)
    image = image_of((1, 30, 37))
    geometry = plan_grids((1, 30, 37), (1, 8, 8), spec)
    predictor = TilePredictor(network, precision=precision, orientations=(0, 1, 6))
    whole = predict_volume(predictor, image, geometry)
    zero = np.zeros(1, np.float32)
    for tile in geometry.tiles(geometry.block_roi(0)):
        inside = tile.intersect(geometry.block_roi(0))
        alone, _ = predictor.predict_block(
            image, (0, 0, 0), inside, geometry, mean=zero, std=zero + 1
        )
        assert np.array_equal(alone, whole[(slice(None), *inside.slices)])


def test_tiles_that_are_not_square_have_a_pair_of_shapes():
    assert strides_in_frames((1, 16, 32), (0, 2, 4)) == ((1, 16, 32),)
    assert strides_in_frames((1, 16, 32), range(8)) == ((1, 16, 32), (1, 32, 16))
    assert strides_in_frames((1, 32, 32), range(8)) == ((1, 32, 32),)


def test_the_halo_turns_with_the_frame():
    halo = UNetSpec().halo
    assert (halo.before, halo.after) == ((0, 92, 92), (0, 96, 96))
    mirrored = ORIENTATIONS[4].halo(halo)
    assert (mirrored.before, mirrored.after) == ((0, 92, 96), (0, 96, 92))
    turned = ORIENTATIONS[1].halo(halo)
    assert (turned.before, turned.after) == ((0, 92, 96), (0, 96, 92))
    assert widest_halo((0,), halo) == halo
    widest = widest_halo(range(8), halo)
    assert (widest.before, widest.after) == ((0, 96, 96), (0, 96, 96))


def test_a_stride_off_the_grid_of_a_turned_frame_is_refused():
    grid = SPECS["pooled_unevenly"].pooling_grid
    assert grid == (1, 1, 4)
    check_stride((1, 6, 8), grid, (0, 2, 4, 6))
    with pytest.raises(
        GeometryError, match=r"is 6 voxels along y.*grid 4 that orientation 1"
    ):
        check_stride((1, 6, 8), grid, (0, 1))


def test_orientations_are_quarter_turns_and_their_mirror_images():
    shape = (2, 3, 5)
    for number, orientation in enumerate(ORIENTATIONS):
        array = np.arange(30).reshape(shape)
        flips = [-2] * orientation.flips_y + [-1] * orientation.flips_x
        tensor = torch.from_numpy(array).flip(flips)
        tensor = tensor.transpose(-1, -2) if orientation.is_turned else tensor
        assert np.array_equal(tensor.numpy(), laid(array, number))
        assert orientation.lay(shape) == laid(array, number).shape
