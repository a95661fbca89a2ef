"""Proposals are uncertain, new, spread out, and the same for any blocks."""

import numpy as np
import pytest

from unetpipe.evaluation.proposals import (
    Crops,
    choose_crops,
    entropy_of_levels,
    measure_proposals,
    proposal_lattice,
    score_crops,
)
from unetpipe.tiling.boxes import Roi

SHAPE = (4, 50, 70)
SIDE = 32


def crops_of(entropy, name="v", disagreement=None, novelty=None, looks=None, free=None):
    zeros = np.zeros_like(entropy)
    depth, rows, columns = entropy.shape
    starts = proposal_lattice(rows * SIDE, SIDE), proposal_lattice(columns * SIDE, SIDE)
    return Crops(
        volume=name,
        starts=starts,
        side=(SIDE, SIDE),
        entropy=entropy,
        disagreement=zeros if disagreement is None else disagreement,
        novelty=np.zeros(depth) if novelty is None else novelty,
        looks=entropy[..., None] if looks is None else looks,
        is_free=np.ones(depth, bool) if free is None else free,
    )


def choose(volumes, number=10, taken=frozenset()):
    return choose_crops(volumes, score_crops(volumes), number, taken)


def test_entropy_is_largest_at_the_threshold():
    for threshold in (0.1, 0.5, 0.9):
        table = entropy_of_levels(threshold)
        assert abs(int(np.argmax(table)) - 255 * threshold) <= 1
        assert table[[0, 255]] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("block", [(1, 10, 13), (4, 50, 70), (3, 64, 33)])
def test_crops_are_means_of_their_voxels_for_any_blocks(block):
    rng = np.random.default_rng(0)
    stored = [rng.integers(0, 256, (1, *SHAPE)).astype(np.uint8) for _ in range(2)]

    def read(roi: Roi):
        return [one[(slice(None), *roi.slices)] for one in stored]

    entropy, apart, share = measure_proposals(read, SHAPE, block, SIDE, 0.5)
    assert entropy.shape == (4, 2, 3)
    table = entropy_of_levels(0.5)
    inside = (2, slice(32, 50), slice(64, 70))
    means = [table[one[0][inside]].mean() for one in stored]
    assert entropy[2, 1, 2] == pytest.approx(np.mean(means))
    spread = np.abs(stored[0][0][inside].astype(float) - stored[1][0][inside]) / 255
    assert apart[2, 1, 2] == pytest.approx(spread.mean(), rel=1e-5)
    assert share[2, 1, 2, 0] == pytest.approx(stored[0][0][inside].mean() / 255)


def test_of_foreground_and_core_the_foreground_decides():
    rng = np.random.default_rng(0)
    shape = (2, *SHAPE)
    stored = [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(2)]

    def measure(networks):
        return measure_proposals(
            lambda roi: [one[(slice(None), *roi.slices)] for one in networks],
            *(SHAPE, SHAPE, SIDE, 0.2),
        )

    alone = measure([one[:1] for one in stored])
    for found, wanted in zip(measure(stored), alone, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_several_classes_are_unsure_where_all_are_alike():
    stored = np.full((4, *SHAPE), 64, np.uint8)
    stored[:, 1] = np.array([255, 0, 0, 0]).reshape(4, 1, 1)

    def read(roi: Roi):
        return [stored[(slice(None), *roi.slices)]]

    entropy, _, means = measure_proposals(read, SHAPE, SHAPE, 80, 0.5)
    assert entropy[0, 0, 0] > 0.99
    assert entropy[1, 0, 0] < 1e-6
    assert means[0, 0, 0] == pytest.approx(64 / 255)
    assert means[1, 0, 0] == pytest.approx([1, 0, 0, 0])


def test_ten_proposals_are_not_one_place():
    entropy = np.full((40, 6, 6), 0.1)
    entropy[8:16, 1:4, 1:4] = 1.0  # a region larger than ten crops
    entropy[30, 5, 5] = 0.9
    places = [one.place for one in choose([crops_of(entropy)])]
    assert len(set(places)) == 10
    assert (30, 5, 5) in places
    assert sum(8 <= z < 16 for z, _, _ in places) < 10
    near = [
        (a, b)
        for i, a in enumerate(places)
        for b in places[:i]
        if abs(a[0] - b[0]) <= 2 and a[1:] == b[1:]
    ]
    assert not near


def test_volumes_share_the_proposals():
    volumes = [
        crops_of(np.full((30, 3, 3), 0.9), "a"),
        crops_of(np.full((30, 3, 3), 0.6)),
    ]
    chosen = choose(volumes)
    assert 2 <= sum(one.volume == 1 for one in chosen) <= 5


def images_of(looks, unsure):
    """Return images of one crop each, as many small images are."""
    return [
        crops_of(np.full((1, 1, 1), e), f"v{k}", looks=np.full((1, 1, 1, 1), look))
        for k, (look, e) in enumerate(zip(looks, unsure, strict=True))
    ]


def test_images_that_look_alike_share_the_proposals_with_others():
    """The most uncertain ones are all of one kind: the third of it tells little."""
    looks, unsure = [0.0] * 4 + [5.0] * 4, [0.9] * 4 + [0.6] * 4
    kinds = [looks[one.volume] for one in choose(images_of(looks, unsure), number=4)]
    assert sorted(kinds) == [0.0, 0.0, 5.0, 5.0]


def test_where_all_look_alike_the_most_uncertain_are_proposed():
    unsure = [0.5, 0.9, 0.7, 0.8]
    chosen = choose(images_of([3.0] * 4, unsure), number=3)
    assert [one.volume for one in chosen] == [1, 3, 2]


def test_units_of_looks_and_what_nobody_may_propose_decide_nothing():
    """A blank section is unlike all others, and no measure of how they differ."""
    looks, unsure = [0.0, 0.1, 1.0], [0.9, 0.85, 0.8]

    def picked(factor):
        volumes = images_of([factor * look for look in looks], unsure)
        blank = crops_of(
            *(np.ones((1, 1, 1)), "blank"),
            **{"looks": np.full((1, 1, 1, 1), -1e4), "free": np.zeros(1, bool)},
        )
        return [one.volume for one in choose([*volumes, blank], number=2)]

    assert picked(1) == picked(1000) == [0, 2]


@pytest.mark.parametrize("what", ["entropy", "disagreement", "novelty"])
def test_each_reason_counts(what):
    reasons = {
        "entropy": np.full((9, 2, 2), 0.2),
        "disagreement": np.full((9, 2, 2), 0.1),
    }
    reasons["novelty"] = np.zeros(9)
    reasons[what][7] = 1.0
    (first,) = choose([crops_of(**reasons)], number=1)
    assert first.place[0] == 7


def test_what_is_annotated_or_was_corrected_is_not_proposed():
    entropy = np.ones((3, 1, 1))
    volume = crops_of(entropy, free=np.array([False, True, True]))
    assert {one.place[0] for one in choose([volume])} == {1, 2}
    (only,) = choose([volume], taken=frozenset({"v_z1_y0_x0"}))
    assert only.place == (2, 0, 0)
    assert choose([crops_of(entropy, free=np.zeros(3, bool))]) == []


@pytest.mark.parametrize(
    "taken", [frozenset(), {"v_z0_y344_x344"}, {"v_z0_y30_x20", "w_z0_y0_x0", "v_z9"}]
)
def test_crops_share_no_voxels_with_others_or_with_those_of_other_rounds(taken):
    """The last of a lattice is moved inside: labels of both are refused as boxes."""
    starts = proposal_lattice(600, 256)
    assert starts == (0, 256, 344)
    scores = np.random.default_rng(0).random((1, 3, 3))
    volume = Crops(
        **{"volume": "v", "starts": (starts, starts), "side": (256, 256)},
        **{"entropy": scores, "disagreement": scores, "novelty": np.zeros(1)},
        **{"looks": scores[..., None], "is_free": np.ones(1, bool)},
    )
    chosen = choose([volume], taken=frozenset(taken))
    corners = [(starts[one.place[1]], starts[one.place[2]]) for one in chosen]
    before = {"v_z0_y344_x344": (344, 344), "v_z0_y30_x20": (30, 20)}
    corners += [before[name] for name in before if name in taken]
    assert len(corners) > 1
    for k, one in enumerate(corners):
        for other in corners[:k]:
            assert max(abs(a - b) for a, b in zip(one, other, strict=True)) >= 256
