"""The published scores of ten small sections, as the challenge's own classes give them.

Sections A to H are 9 columns by 7 rows with two cells parted by column 4; V and W are
noisy maps of ten cells. Values were computed with the Java classes of the challenge.
"""

import math

import numpy as np
import pytest

from tests.metrics.oracles import score_stack
from tests.metrics.sections import thin_borders, warp_section
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.curves import accumulated_thresholds
from unetpipe.metrics.isbi import score_isbi_section
from unetpipe.metrics.rand import information_scores, rand_scores
from unetpipe.metrics.simple_points import Mistake
from unetpipe.metrics.thinning import label_components
from unetpipe.metrics.warping import collect_warping

TOLERANCE = 1e-9
NAN = math.nan


def two_cells():
    truth = np.ones((7, 9), int)
    truth[:, 4] = 0
    return truth


def drawn(name):
    """Truth and proposal of one of the sections A to H."""
    truth, proposal = two_cells(), two_cells()
    match name:
        case "A shift":
            proposal = np.roll(proposal, 1, axis=1)
        case "B gap":
            proposal[3, 4] = 1
        case "C spurious":
            proposal[3, 5:] = 0
        case "D hole":
            proposal[3, 2] = 0
        case "E thick":
            proposal[:, 3:6] = 0
        case "F deleted":
            truth = np.zeros((7, 9), int)
            truth[2:5, 2:7] = 1
            proposal = np.zeros((7, 9), int)
        case "G empty truth":
            truth = np.zeros((7, 9), int)
    return truth, proposal.astype(np.float32)


def noisy():
    """Truth, V (thin noisy borders) and W (thick noisy borders), 48 x 48."""
    rs, size = np.random.RandomState(7), 48
    points = rs.randint(0, size, size=(10, 2))
    yy, xx = np.mgrid[:size, :size]
    nearest = np.stack([(yy - a) ** 2 + (xx - b) ** 2 for a, b in points]).argmin(0)
    border = np.zeros((size, size), bool)
    border[:-1] |= nearest[:-1] != nearest[1:]
    border[:, :-1] |= nearest[:, :-1] != nearest[:, 1:]
    noise = rs.randint(-9, 10, size=(size, size))
    thin = np.clip(np.where(border, 3, 16) + noise, 0, 19) / 20 + 0.025
    thick_border = border.copy()
    thick_border[1:] |= border[:-1]
    thick_border[:, 1:] |= border[:, :-1]
    noise = rs.randint(-7, 8, size=(size, size))
    thick = np.clip(np.where(thick_border, 3, 16) + noise, 0, 19) / 20 + 0.025
    truth = (~border).astype(int)
    return truth, thin.astype(np.float32), thick.astype(np.float32)


# name: pixels wrong at 0.5, 1 - max F, Rand error, unthinned V_Info, thinned V_Rand
DRAWN = {
    "A shift": (14 / 63, 0.125, 0.12, 0.7255423938, 0.88),
    "B gap": (1 / 63, 0.0088495575, 1 / 3, 0.0, 2 / 3),
    "C spurious": (4 / 63, 0.0370370370, 0.1860816944, 0.6975288393, 0.8139183056),
    "D hole": (1 / 63, 0.0090090090, 0.0175210902, 0.9473543734, 1.0),
    "E thick": (14 / 63, 0.1428571429, 0.2727272727, 0.5692950399, 1.0),
    "F deleted": (15 / 63, 1.0, 0.875, 0.0, 1.0),
    "G empty truth": (56 / 63, 1.0, NAN, NAN, NAN),
    "H perfect": (0.0, 0.0, 0.0, 1.0, 1.0),
}
# index: pixels wrong at 0.5, 1 - max F, Rand error, Rand F at 0.5,
# thinned V_Rand at 0.5 and at best, thinned V_Info at 0.5 and at best
NOISY = {
    1: (
        *(0.1610243056, 0.0208234737, 0.3876807201, 0.2080822953),
        *(0.2165911706, 0.8073929423, 0.0209290850, 0.8437479640),
    ),
    2: (
        *(0.1445312500, 0.0505536832, 0.1874048285, 0.8125951715),
        *(0.8875834502, 0.9127814048, 0.8912290423, 0.8912290423),
    ),
}

# Mistakes left after warping, at 0.5.
MISTAKES = {
    "A shift": {},
    "B gap": {Mistake.MERGE: 1},
    "C spurious": {Mistake.SPLIT: 1},
    "D hole": {Mistake.HOLE_ADDITION: 1},
    "E thick": {},
    "F deleted": {Mistake.OBJECT_DELETION: 1},
    "G empty truth": {Mistake.OBJECT_ADDITION: 56},
    "H perfect": {},
}
# index: mistakes at 0.1 ... 0.9, (split, merge) at 0.5, fewest splits and merges
NOISY_MISTAKES = {
    1: ([118, 94, 73, 130, 234, 223, 174, 175, 281], (10, 34), 33),
    2: ([100, 63, 34, 17, 72, 182, 154, 167, 258], (3, 1), 4),
}


def close(value):
    return pytest.approx(value, abs=TOLERANCE, nan_ok=True)


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_sections_score_as_published(name):
    truth, proposal = drawn(name)
    wrong, pixel_error, rand_error, v_info, v_rand = DRAWN[name]
    curves = score_stack(proposal[None], truth[None])
    assert curves.pixel_disagreement.at(0.5) == close(wrong)
    assert curves.pixel_error.best().score == close(pixel_error)
    assert curves.rand_error.at(0.5) == close(rand_error)
    assert curves.v_rand.at(0.5) == close(v_rand)
    table = ContingencyTable.from_arrays(
        label_components(truth > 0), label_components(proposal > 0.5)
    )
    assert information_scores(table).f_score == close(v_info)
    assert rand_scores(table).error == close(rand_error)


@pytest.mark.parametrize("index", NOISY)
def test_noisy_sections_score_as_published(index):
    sections = noisy()
    curves = score_stack(sections[index][None], sections[0][None])
    scores = (
        curves.pixel_disagreement.at(0.5),
        curves.pixel_error.best().score,
        curves.rand_error.best().score,
        1 - curves.rand_error.at(0.5),
        curves.v_rand.at(0.5),
        curves.v_rand.best().score,
        curves.v_info.at(0.5),
        curves.v_info.best().score,
    )
    assert scores == tuple(close(value) for value in NOISY[index])


def test_transposed_drawn_sections_score_the_same():
    for name in DRAWN:
        truth, proposal = drawn(name)
        upright = score_isbi_section(proposal, truth)
        lying = score_isbi_section(proposal.T, truth.T)
        np.testing.assert_array_equal(upright.rand, lying.rand)
        np.testing.assert_array_equal(upright.pixels, lying.pixels)


def test_a_section_without_predicted_cells_thins_to_one_cell():
    assert (thin_borders(np.zeros((5, 6), bool)) == 1).all()


@pytest.mark.parametrize("name", MISTAKES)
def test_drawn_sections_warp_as_published(name):
    truth, proposal = drawn(name)
    section = warp_section(proposal, truth, thresholds=np.array([0.5]))
    found = {Mistake(k): n for k, n in enumerate(section.mistakes[0]) if k and n}
    assert found == MISTAKES[name]
    classic = collect_warping([section]).classic_warping_error.at(0.5)
    assert classic == close(sum(MISTAKES[name].values()) / 63)


@pytest.mark.parametrize("index", NOISY_MISTAKES)
def test_noisy_sections_warp_as_published(index):
    sections = noisy()
    classic, split_and_merge, fewest = NOISY_MISTAKES[index]
    curves = collect_warping([warp_section(sections[index], sections[0])])
    assert curves.mistakes[:, 1:].sum(axis=1).tolist() == classic
    at_half = curves.mistakes[4]
    assert (at_half[Mistake.SPLIT], at_half[Mistake.MERGE]) == split_and_merge
    assert curves.warping_error.best().score == close(fewest / 48**2)


@pytest.mark.parametrize("index", NOISY_MISTAKES)
def test_thresholds_where_the_map_is_constant_are_skipped(index):
    sections = noisy()
    section = warp_section(
        sections[index], sections[0], thresholds=accumulated_thresholds(1.0)
    )
    cheat = section.mistakes[-1]  # all membrane: cells are lost, none split or merged
    assert cheat[Mistake.SPLIT] + cheat[Mistake.MERGE] == 0
    assert cheat[Mistake.OBJECT_DELETION] > 0
    warping_error = collect_warping([section]).warping_error
    assert np.isnan(warping_error.pooled).nonzero()[0].tolist() == [0, 10]
    assert warping_error.best().score == close(NOISY_MISTAKES[index][2] / 48**2)
