"""Volumes unlike what a network has learnt from are told, others are not."""

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tests.ingestion.test_odd_sections import alike
from tests.ingestion.test_section_statistics import watch
from tests.records.whole import whole
from unetpipe.records.sections import FoundSections, LearntSections
from unetpipe.records.volume import (
    ChannelStatistics,
    GreyPercentiles,
    IngestedVolume,
)
from unetpipe.records.weight_map import WeightMap
from unetpipe.targets.likeness import (
    describe_learnt,
    find_by_section,
    join_learnt,
    unlike_learnt,
    unlike_result,
)
from unetpipe.tiling.intensity import IntensityStatistics

AREA = 64 * 64


def volume(voxels: NDArray[Any]) -> IngestedVolume:
    """Return the record of a volume, (z, y, x)."""
    told = IntensityStatistics.of(voxels).to_json()
    found = IngestedVolume.model_validate(whole("ingest", {"shape": voxels.shape}))
    update = {
        "statistics": (ChannelStatistics(**told),),
        "sections": watch(voxels[None]),
    }
    return found.model_copy(update=update)


def weights(num: int, cells: int = 8, share: float = 0.4) -> WeightMap:
    foreground = int(share * AREA)
    return WeightMap.model_validate(
        whole("weight_map", {})
        | {
            "class_counts": [(AREA - foreground, foreground)] * num,
            "num_cells": [cells] * num,
        }
    )


@pytest.fixture(scope="module")
def learnt():
    found = describe_learnt([(volume(alike(num=6)), weights(6), (0, 2, 3))])
    assert found.num_sections == 3
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [1, 0.5])
def test_a_volume_of_the_same_tissue_is_alike(learnt, seed, scale):
    voxels = (alike(seed=seed + 5) * scale).astype(np.uint8)
    assert unlike_learnt(learnt, volume(voxels)) == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda v: ndimage.gaussian_filter(v, (0, 3, 3)), "sharpness"),
        (lambda v: v + np.random.default_rng(0).normal(0, 60, v.shape), "sharpness"),
        (lambda v: np.where(v > 150, 250.0, 20.0) + v / 9, "percentile"),
    ],
)
def test_another_kind_of_image_is_told(learnt, change, word):
    voxels = np.clip(change(alike(seed=5).astype(np.float64)), 0, 255)
    (told,) = unlike_learnt(learnt, volume(voxels.astype(np.uint8)))
    assert word in told
    assert "before you believe it" in told


def test_percentiles_are_compared_where_they_normalise(learnt):
    """A few glaring voxels move the deviation, and not what the network sees."""
    voxels = alike(num=6, dtype=np.float32)
    glaring = voxels.copy()
    glaring[:, ::16, ::16] = 4000

    def robust(of):
        found = volume(of)
        ranks, values = (5.0, 95.0), tuple(np.percentile(of, (5, 95)).tolist())
        percentiles = GreyPercentiles.between(ranks, values)
        [channel] = found.statistics
        changed = channel.model_copy(update={"percentiles": percentiles})
        return found.model_copy(update={"statistics": (changed,)})

    known = describe_learnt([(robust(voxels), weights(6), range(6))])
    known = known.model_copy(update={"sharpness": None})
    assert known.low.median == pytest.approx(-NormalDist().inv_cdf(0.95), abs=0.1)
    assert unlike_learnt(learnt, volume(glaring))
    assert unlike_learnt(known, robust(glaring)) == ()


def test_blank_sections_make_no_volume_unlike(learnt):
    voxels = alike(seed=5)
    voxels[:4] = voxels.mean()
    assert unlike_learnt(learnt, volume(voxels)) == ()


def test_results_are_compared_with_what_was_annotated(learnt):
    share = int(0.4 * AREA)
    same = FoundSections(num_objects=(8,) * 5, foreground_vox=(share,) * 5)
    assert unlike_result(learnt, same, AREA) == ()
    crumbs = FoundSections(num_objects=(90,) * 5, foreground_vox=(share,) * 5)
    (told,) = unlike_result(learnt, crumbs, AREA)
    assert "objects in a million voxels" in told
    assert "voxels of an object" in told
    nothing = FoundSections(num_objects=(0,) * 5, foreground_vox=(0,) * 5)
    (told,) = unlike_result(learnt, nothing, AREA)
    assert "share of foreground 0, there 0.4" in told


def test_classes_tell_of_no_number_of_objects():
    learnt = describe_learnt([(volume(alike(num=6)), weights(6, cells=0), (0, 2, 3))])
    many = FoundSections(num_objects=(90,) * 5, foreground_vox=(int(0.4 * AREA),) * 5)
    assert unlike_result(learnt, many, AREA) == ()


def test_nothing_is_told_where_nobody_knows(learnt):
    old = volume(alike()).model_copy(update={"sections": None})
    assert describe_learnt([(old, weights(20), (0,))]) is None
    assert unlike_learnt(learnt, old) == ()
    assert unlike_learnt(None, volume(alike())) == ()
    assert join_learnt([learnt, None]) is None
    assert join_learnt([learnt, learnt]) == learnt


def test_objects_are_counted_in_every_section_that_they_reach():
    assert find_by_section([0, 0, 2], [1, 1, 3], [4, 5, 6], 4) == FoundSections(
        num_objects=(2, 0, 1, 0), foreground_vox=(9, 0, 6, 0)
    )
    spanning = find_by_section([0, 1], [3, 2], [9, 9], 4)
    assert spanning == FoundSections(num_objects=(1, 2, 1, 0))
    assert find_by_section([], [], [], 2).num_objects == (0, 0)


def test_the_record_of_a_network_without_it_is_read():
    assert LearntSections(num_sections=1).low is None
