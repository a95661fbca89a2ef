"""What needs no network is chosen by what chose the network."""

from dataclasses import replace

import numpy as np
import pytest

from unetpipe.evaluation.baselines import GreyRule, GreySection, choose_baselines
from unetpipe.metrics.cell_tracking import match_seg_references
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.instances import match_instances
from unetpipe.metrics.isbi import collect_isbi_curves, score_isbi_section
from unetpipe.metrics.overlap import class_scores, confusion_matrix

WALLS = 12  # from wall to wall


@pytest.fixture(scope="module")
def section():
    """Bright cells with thin dark walls, in strong noise, a corner not annotated."""
    y, x = np.mgrid[:96, :96]
    is_wall = (y % WALLS == 0) | (x % WALLS == 0)
    ids = np.where(is_wall, 0, 1 + y // WALLS * 8 + x // WALLS)
    noise = np.random.default_rng(0).normal(0, 45, ids.shape)
    unknown = (y > 80) & (x > 80)
    return GreySection(100 + 100 * (ids > 0) + noise, ids, unknown)


def dice(section, rule):
    counts = confusion_matrix(
        section.truth > 0, rule.mask(section.grey), 2, unlabelled=section.unknown
    )
    return class_scores(counts).dice[1]


def v_rand(section, rule):
    found, truth = (
        mask & ~section.unknown for mask in (rule.mask(section.grey), section.truth > 0)
    )
    scored = score_isbi_section(found * 1.0, truth, thresholds=np.array([0.5]))
    return float(collect_isbi_curves([scored]).v_rand.pooled[0])


def otsu(section, metric):
    rules = choose_baselines([section], [section], has_ids=False, by=metric)
    return next(rule for rule in rules if rule.kind == "Otsu")


def test_walls_choose_the_baseline_of_a_network_that_walls_chose(section):
    by_dice, by_walls = otsu(section, "dice"), otsu(section, "v_rand")
    gained = v_rand(section, by_walls) - v_rand(section, by_dice)
    lost = dice(section, by_dice) - dice(section, by_walls)
    assert gained > lost > 0


def test_objects_choose_where_objects_chose_the_network():
    """Discs in noise: objects want more smoothing than voxels do."""
    y, x = np.mgrid[:128, :128]
    ids = np.zeros((128, 128), int)
    for number, (cy, cx) in enumerate(np.ndindex(5, 5), start=1):
        ids[np.hypot(y - 14 - 24 * cy, x - 14 - 24 * cx) < 5] = number
    noise = np.random.default_rng(1).normal(0, 55, ids.shape)
    section = GreySection(100 + 110 * (ids > 0) + noise, ids, np.zeros(ids.shape, bool))

    def agreement(rule):
        found = rule.objects(rule.mask(section.grey)[None], "2d")[0]
        table = ContingencyTable.from_arrays(ids, found)
        f1 = match_instances(table).f1
        return {"f1": f1, "seg": (match_seg_references(table).seg + f1) / 2}

    by = {metric: agreement(otsu(section, metric)) for metric in ("dice", "f1", "seg")}
    assert by["f1"]["f1"] > by["dice"]["f1"]
    assert by["seg"]["seg"] >= max(by["dice"]["seg"], by["f1"]["seg"])


def test_a_mask_whose_objects_touch_is_cut_all_the_same():
    """Uncut, its objects score nothing, so their score does not find the mask."""
    y, x = np.mgrid[:96, :96]
    ids = np.zeros((96, 96), int)
    for number, (cy, cx) in enumerate(np.ndindex(4, 4), start=1):
        ids[np.hypot(y - 12 - 24 * cy, x - 12 - 23 * cx) < 11] = number
    noise = np.random.default_rng(0).normal(0, 60, ids.shape)
    section = GreySection(100 + 60 * (ids > 0) + noise, ids, np.zeros(ids.shape, bool))
    rules = choose_baselines([section], [section], has_ids=True, by="f1")
    cut = next(rule for rule in rules if rule.name == "Otsu + watershed")
    found = cut.objects(cut.mask(section.grey)[None], "2d")[0]
    assert match_instances(ContingencyTable.from_arrays(ids, found)).f1 > 0.8


def test_hot_voxels_do_not_take_the_threshold(section):
    """Nine of them: smoothed, they are blobs brighter than any cell."""
    places = np.random.default_rng(3).integers(0, 96, (9, 2)).T
    hot = section.grey.copy()
    hot[tuple(places)] = 65_535
    rule = GreyRule("Otsu", sigma_vox=1)
    spoilt = replace(section, grey=hot)
    assert abs(dice(spoilt, rule) - dice(section, rule)) < 0.02
