"""Temperature scaling: as sure as right, by one number that moves no mask."""

import numpy as np
import pytest

from unetpipe.metrics.temperature import at_temperature, fit_temperature
from unetpipe.metrics.value_counts import calibration_at_temperature, calibration_curve
from unetpipe.tiling.quantised import threshold_mask

LEVELS = np.linspace(0, 1, 256)


def counts_of(true_temperature, voxels=100_000):
    """Voxels whose truth is drawn at a temperature other than 1."""
    rng = np.random.default_rng(0)
    of_level = rng.integers(1, 2 * voxels // 256, 256)
    inside = of_level * at_temperature(LEVELS, true_temperature)
    return np.stack([of_level - inside, inside]).round().astype(np.int64)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_of_the_truth_is_found(temperature):
    counts = counts_of(temperature)
    found = fit_temperature(counts)
    assert found.temperature == pytest.approx(temperature, rel=0.02)
    assert found.num_voxels == counts.sum()
    assert found.loss_after <= found.loss_before


def test_the_curve_at_the_temperature_is_the_better_one():
    counts = counts_of(2.5)
    before = calibration_curve(counts)
    after = calibration_at_temperature(counts, at_temperature(LEVELS, 2.5))
    assert before.expected_error > 0.1
    assert after.expected_error < 0.01
    assert after.num_voxels.sum() == counts.sum()
    known = after.num_voxels > 0
    np.testing.assert_allclose(after.share[known], after.probability[known], atol=0.01)


def test_at_one_nothing_but_the_ends_is_another():
    np.testing.assert_allclose(at_temperature(LEVELS, 1.0)[1:-1], LEVELS[1:-1])


@pytest.mark.parametrize("temperature", [0.3, 4.0])
def test_every_mask_of_stored_values_has_its_equal_at_the_temperature(temperature):
    stored = np.arange(256, dtype=np.uint8)
    scaled = at_temperature(stored / 255, temperature)
    for threshold in (0.2, 0.5, 0.81):
        moved = at_temperature(threshold + 1e-6, temperature)
        np.testing.assert_array_equal(scaled > moved, threshold_mask(stored, threshold))


def test_one_class_alone_has_no_temperature():
    counts = np.zeros((2, 256), np.int64)
    counts[1] = 7
    assert fit_temperature(counts) is None
