"""How much a section's scores cost, as ratios to plain code.

``pytest -s tests/metrics/test_speed.py`` prints the figures. Both sides of a ratio run
in the same process, in processor seconds of which the least of three counts: a busy
machine slows both alike.
"""

import time

import numpy as np
import pytest
from scipy import ndimage

from tests.metrics.sections import warp_section
from tests.metrics.test_warping import classify_slowly, map_of, warp_slowly
from unetpipe.metrics.isbi import score_isbi_section

# Of one core: 65 and more than 1,000.
MOST_BLURS = 400.0
LEAST_RATIO = 20.0


def noisy_section(size):
    """Membranes around 12 voxels wide cells, and a blurred, noisy map of them."""
    cells = np.ones((size, size), bool)
    cells[::24] = cells[:, ::24] = False
    noise = np.random.default_rng(0).standard_normal(cells.shape)
    return np.clip(ndimage.gaussian_filter(cells + noise, 1.0), 0, 1), cells


def seconds_of(function):
    """Return the least processor seconds of three calls, and the result."""
    seconds = []
    for _ in range(3):
        began = time.process_time()
        result = function()
        seconds.append(time.process_time() - began)
    return min(seconds), result


def score(probability, cells):
    score_isbi_section(probability, cells)
    warp_section(probability, cells)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    score(*noisy_section(32))


@pytest.mark.slow
def test_a_section_is_scored_at_all_thresholds_in_the_time_of_some_blurs():
    probability, cells = noisy_section(512)
    scoring, _ = seconds_of(lambda: score_isbi_section(probability, cells))
    warping, _ = seconds_of(lambda: warp_section(probability, cells))
    blur, _ = seconds_of(lambda: ndimage.gaussian_filter(probability, 1.0))
    print(
        f"\n512 x 512, one core: pixel, Rand, V_Rand and V_Info at 11 thresholds "
        f"{scoring:.2f} s, warping error at 9 thresholds {warping:.2f} s, "
        f"{(scoring + warping) / blur:.0f} blurs"
    )
    assert scoring + warping < MOST_BLURS * blur


@pytest.mark.slow
def test_warping_is_many_times_faster_than_a_plain_loop():
    """The plain loop reads like the definition; both name the same mistakes."""
    probability, cells = noisy_section(128)
    fast, ours = seconds_of(lambda: map_of(probability, cells, 0.5))
    exact = probability.astype(np.float32).astype(np.float64)
    slow, plain = seconds_of(
        lambda: classify_slowly(*warp_slowly(cells, exact, 0.5)),
    )
    np.testing.assert_array_equal(ours, plain)
    print(
        f"\nwarping error of 128 x 128 at one threshold: {1000 * fast:.1f} ms, plain "
        f"Python {1000 * slow:.0f} ms: {slow / fast:.0f} times faster"
    )
    assert slow / fast > LEAST_RATIO
