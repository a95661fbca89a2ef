"""One resampling for image, target and weights, drawn from one generator a patch."""

import pytest
import torch
from torch.nn import functional

from unetpipe.training.augmentation import (
    Augmentation,
    are_whole,
    augment_image,
    augment_labels,
    bounding_box,
    draw_coordinates,
    draw_grey_change,
    seeded_generator,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


EVERYTHING = Augmentation(
    shift_vox=10,
    rotation_degrees=180,
    flip=True,
    elastic_sigma_vox=10,
    grey_scale=0.2,
    grey_shift=0.2,
)
SHAPE = (24, 30)


def draw(augmentation, *, seed=0, shape=SHAPE):
    return draw_coordinates(shape, augmentation, seeded_generator(seed))


def identity(shape=SHAPE):
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def test_no_augmentation_takes_every_voxel_from_itself():
    assert torch.equal(draw(Augmentation()), identity())


def resampled(image, coordinates):
    return augment_image(image, coordinates, is_copied=are_whole(coordinates))


def test_coordinates_are_whole_where_all_name_voxels():
    assert are_whole(identity())
    assert are_whole(draw(Augmentation(flip=True)))
    between = identity()
    between[1, 3, 2] += 2**-10
    assert not are_whole(between)
    assert not are_whole(draw(EVERYTHING))


def test_without_augmentation_the_image_is_copied_bit_for_bit():
    image = torch.randn(2, 3, *SHAPE)
    assert torch.equal(resampled(image, draw(Augmentation())), image)
    grey = draw_grey_change(2, Augmentation(), seeded_generator(0))
    assert grey.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("shape", [SHAPE, (25, 31)], ids=["even", "odd"])
def test_flips_copy_bit_for_bit_and_come_in_all_four_kinds(shape):
    image = torch.randn(1, 1, *shape)
    kinds = [image.flip(dims) for dims in ([], [2], [3], [2, 3])]
    counts = [0] * 4
    for seed in range(200):
        flipped = resampled(
            image, draw(Augmentation(flip=True), seed=seed, shape=shape)
        )
        (kind,) = [k for k, other in enumerate(kinds) if torch.equal(flipped, other)]
        counts[kind] += 1
    assert min(counts) > 25  # 50 each on average


def test_shifts_move_the_patch_as_a_whole_within_their_range():
    shifts = torch.stack(
        [
            (draw(Augmentation(shift_vox=3), seed=s) - identity())[:, 0, 0]
            for s in range(300)
        ]
    )
    moved = draw(Augmentation(shift_vox=3)) - identity()
    assert moved.std(dim=(1, 2)).max() < 1e-5
    assert shifts.abs().max() <= 3
    assert shifts.amin() < -2.8
    assert shifts.amax() > 2.8


def test_rotations_keep_distances_and_the_centre():
    rotated = draw(Augmentation(rotation_degrees=180), seed=5)
    centre = torch.tensor([(n - 1) / 2 for n in SHAPE]).reshape(2, 1, 1)
    before = (identity() - centre).norm(dim=0)
    torch.testing.assert_close((rotated - centre).norm(dim=0), before)
    assert (rotated - identity()).abs().max() > 3
    torch.testing.assert_close(rotated.mean(dim=(1, 2)), centre.flatten())


def test_zoom_scales_all_distances_alike_within_its_range_and_both_ways():
    factors = []
    for seed in range(40):
        moved = draw(Augmentation(zoom=0.5), seed=seed) - identity()[:, :1, :1]
        steps = moved.diff(dim=1)[0], moved.diff(dim=2)[1]
        assert all(torch.allclose(s, steps[0][0, 0], atol=1e-4) for s in steps)
        factors.append(1 / float(steps[0][0, 0]))
        centre = draw(Augmentation(zoom=0.5), seed=seed).mean(dim=(1, 2))
        assert torch.allclose(centre, identity().mean(dim=(1, 2)), atol=1e-4)
    assert 1 / 1.5 <= min(factors) < 0.75
    assert 1.35 < max(factors) <= 1.5
    assert 12 < sum(factor > 1 for factor in factors) < 28  # as often up as down


def test_zoom_of_0_draws_what_was_drawn_before_there_was_one():
    generator = seeded_generator(3)
    draw_coordinates(SHAPE, EVERYTHING, generator)
    rest = torch.rand(4, generator=generator)
    again = seeded_generator(3)
    torch.rand(5, generator=again)
    torch.randn(2, 3, 3, generator=again)
    assert torch.equal(rest, torch.rand(4, generator=again))


def test_a_rotation_is_no_flip():
    y, x = draw(Augmentation(rotation_degrees=180), seed=5)
    along_y = torch.stack([y[1, 0] - y[0, 0], x[1, 0] - x[0, 0]])
    along_x = torch.stack([y[0, 1] - y[0, 0], x[0, 1] - x[0, 0]])
    determinant = along_y[0] * along_x[1] - along_y[1] * along_x[0]
    torch.testing.assert_close(determinant, torch.tensor(1.0), rtol=1e-4, atol=1e-4)


def test_elastic_displacements_are_normal_at_the_points_of_the_grid():
    """Corners, centre and middles of the sides of a 3x3 grid, 10 voxels."""
    shape = (25, 31)
    at_grid = torch.cat(
        [
            (
                draw(Augmentation(elastic_sigma_vox=10), seed=s, shape=shape)
                - identity(shape)
            )[:, ::12, ::15].flatten()
            for s in range(200)
        ]
    )
    assert at_grid.numel() == 200 * 2 * 9
    assert abs(float(at_grid.mean())) < 0.5
    assert abs(float(at_grid.std()) - 10) < 0.4


def test_elastic_displacements_are_the_bicubic_upsampling_of_their_grid():
    augmentation = Augmentation(elastic_sigma_vox=2, elastic_grid=4)
    moved = draw(augmentation, seed=3) - identity()
    generator = seeded_generator(3)
    torch.rand(5, generator=generator)
    coarse = 2 * torch.randn(2, 4, 4, generator=generator)
    expected = functional.interpolate(
        coarse[None], size=SHAPE, mode="bicubic", align_corners=True
    )[0]
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)


def test_the_box_covers_all_that_is_read():
    coordinates = draw(EVERYTHING, seed=2)
    (y0, y1), (x0, x1) = bounding_box(coordinates)
    assert coordinates[0].min() - 2 >= y0 - 1
    assert coordinates[0].max() + 2 < y1
    assert coordinates[1].max() + 2 < x1
    origin = torch.tensor([y0, x0]).reshape(2, 1, 1)
    inside = torch.rand(1, 1, y1 - y0, x1 - x0)
    # The same voxels amid others: nothing beyond the box is read.
    amid = torch.full((1, 1, y1 - y0 + 20, x1 - x0 + 20), 1e6)
    amid[..., 10:-10, 10:-10] = inside
    torch.testing.assert_close(
        resampled(amid, coordinates - origin + 10),
        resampled(inside, coordinates - origin),
        rtol=0,
        atol=2e-3,
    )


def test_image_and_target_move_alike():
    """An image that holds its own class everywhere still does so afterwards."""
    y, x = identity((120, 120))
    target = ((y // 30 + x // 30) % 3).to(torch.uint8)[None]
    coordinates = draw(EVERYTHING, seed=1, shape=(60, 60)) + 30
    coordinates = coordinates.clamp(3, 116)
    image = resampled(target[None].float(), coordinates)[0]
    moved = augment_labels(target, coordinates)
    assert moved.dtype == torch.uint8
    # Bicubic values differ from nearest ones only where classes meet.
    agree = (image - moved).abs() < 0.5
    assert agree.float().mean() > 0.99
    still = augment_labels(target, identity((60, 60)) + 30)
    assert (moved == still).float().mean() < 0.8


def test_sections_of_a_patch_move_together():
    image = torch.randn(2, 5, 40, 40)
    coordinates = (draw(EVERYTHING, seed=4) + 8).clamp(2, 37)
    together = resampled(image, coordinates)
    for z in range(5):
        alone = resampled(image[:, z : z + 1], coordinates)
        torch.testing.assert_close(together[:, z : z + 1], alone)


def test_resampling_keeps_most_of_the_noise():
    """Bilinear weights would leave 0.67 of its standard deviation."""
    image = torch.randn(1, 1, 200, 200)
    coordinates = draw(Augmentation(rotation_degrees=180), seed=5, shape=(90, 90)) + 55
    assert 0.8 < float(resampled(image, coordinates).std()) < 0.95


def test_grey_values_vary_by_channel_within_their_range():
    grey = torch.stack(
        [draw_grey_change(2, EVERYTHING, seeded_generator(s)) for s in range(99)]
    )
    assert (grey[:, 0] - 1).abs().max() <= 0.2
    assert grey[:, 1].abs().max() <= 0.2
    assert (grey[:, 0] - 1).abs().max() > 0.18
    assert (grey[:, :, 0] != grey[:, :, 1]).all()


def test_the_same_numbers_draw_the_same_deformation_and_others_another():
    assert torch.equal(draw(EVERYTHING, seed=7), draw(EVERYTHING, seed=7))
    assert not torch.equal(draw(EVERYTHING, seed=7), draw(EVERYTHING, seed=8))
    states = {
        seeded_generator(*k).initial_seed() for k in [(1, 2), (2, 1), (12,), (1,)]
    }
    assert len(states) == 4


def test_drawing_leaves_the_global_random_numbers_alone():
    before = torch.get_rng_state()
    draw(EVERYTHING)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(40, 40), (41, 57), (2, 300)])
def test_coordinates_reach_the_sampling_as_an_exact_division_leaves_them(shape):
    image = torch.randn(2, 3, *shape)
    coordinates = (draw(EVERYTHING, seed=6) + 8).clamp(0, 39)
    ends = torch.tensor([n - 1 for n in shape]).reshape(2, 1, 1) / 2
    grid = (coordinates / ends - 1).flip(0).permute(1, 2, 0)
    expected = torch.nn.functional.grid_sample(
        image.reshape(1, 6, *shape),
        grid[None],
        mode="bicubic",
        padding_mode="border",
        align_corners=True,
    ).reshape(2, 3, *coordinates.shape[1:])
    assert torch.equal(resampled(image, coordinates), expected)
