"""The phantom: the same bytes everywhere, and a task worth learning."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from tests.phantoms import draw_phantom
from unetpipe.ingestion.phantom import draw_phantom_sections


@pytest.fixture(scope="module")
def phantom():
    return draw_phantom(shape=(8, 256, 256), num_cells=60, noise=24.0, seed=1)


def test_a_seed_draws_the_same_bytes_on_every_machine(phantom):
    image, labels = phantom
    assert hashlib.sha256(image.tobytes()).hexdigest() == (
        "9f8a745725f645af2b8fcb88165243ea4bd66650740512d2d3d2717dd897aae7"
    )
    assert hashlib.sha256(labels.astype("<u2").tobytes()).hexdigest() == (
        "7c566ac2844918169db7c5fe7f9bd24d5865bdb39ccce7ba51612b3077e3bd4a"
    )


def test_another_seed_draws_other_cells(phantom):
    _, other = draw_phantom(shape=(1, 256, 256), num_cells=60, noise=24.0, seed=2)
    assert np.mean(other[0] != phantom[1][0]) > 0.5


def test_sections_drawn_one_by_one_are_the_volume(phantom):
    sections = draw_phantom_sections(
        shape=(8, 256, 256), num_cells=60, noise=24.0, seed=1
    )
    for z, (image, labels) in enumerate(sections):
        assert image.dtype == np.uint8
        assert labels.dtype == np.uint16
        np.testing.assert_array_equal(image, phantom[0][z])
        np.testing.assert_array_equal(labels, phantom[1][z])


def test_cells_never_touch_and_membranes_are_at_most_a_few_voxels_wide(phantom):
    for section in phantom[1]:
        turned = section.T
        for one, two in ((section[1:], section[:-1]), (turned[1:], turned[:-1])):
            assert not np.any((one != two) & (one > 0) & (two > 0))
        depth = ndimage.distance_transform_edt(section == 0)
        assert np.mean(depth[section == 0] > 2) < 0.01


def test_cells_drift_smoothly_from_section_to_section(phantom):
    labels = phantom[1].astype(int)
    moved = [np.mean((a != b) & (a > 0) & (b > 0)) for a, b in pairwise(labels)]
    assert min(moved) > 0
    assert max(moved) < 0.08  # a random partition of 60 cells would give 0.75


def test_no_threshold_tells_membranes_from_organelles(phantom):
    image, labels = phantom
    smooth = ndimage.gaussian_filter(image.astype(float), (0, 1.2, 1.2))
    foreground = labels > 0
    errors = [np.mean((smooth > t) != foreground) for t in range(0, 256, 4)]
    assert 0.06 < min(errors) < 0.12  # 0.13 of the voxels are membrane


def test_membranes_are_darker_than_cells_in_every_section(phantom):
    for image, labels in zip(*phantom, strict=True):
        assert image[labels > 0].mean() - image[labels == 0].mean() > 30


@pytest.mark.parametrize(
    ("shape", "num_cells"), [((1, 1, 1), 1), ((2, 3, 40), 1), ((1, 16, 16), 400)]
)
def test_odd_shapes_can_be_drawn(shape, num_cells):
    image, labels = draw_phantom(shape=shape, num_cells=num_cells, noise=0.0, seed=0)
    assert image.shape == labels.shape == shape
    assert labels.max() <= num_cells
