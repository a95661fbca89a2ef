"""Affinities: of one cell or not, pair by pair; what is not known counts nothing."""

from dataclasses import replace

import numpy as np
import pytest

from unetpipe.targets import affinities
from unetpipe.targets.affinities import (
    UNKNOWN,
    balance_pairs,
    count_affinity_pairs,
    learn_affinities,
    read_affinity_ids,
)
from unetpipe.targets.annotated import AnnotatedVolume
from unetpipe.tiling.boxes import Roi, whole_volume

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, 1), (0, 3, -2), (-2, 0, 0))


def draw_ids(shape=(5, 12, 13), seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, [-(-n // 3) for n in shape])
    ids = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    return ids[tuple(slice(n) for n in shape)].astype(np.int64)


def volume_of(ids, unlabelled=None, sections=None):
    sections = tuple(range(len(ids))) if sections is None else sections
    return AnnotatedVolume(
        name="v",
        image=ids[None].astype(np.float32),
        target=np.where(ids == unlabelled, 255, ids > 0).astype(np.uint8),
        border=None,
        mean=np.zeros(1),
        std=np.ones(1),
        sections=sections,
        num_known=(ids[0].size,) * len(sections),
        instances=ids.astype(np.uint32),
        unlabelled=unlabelled,
    )


def test_a_pair_is_alike_where_both_voxels_have_the_same_id_and_no_other():
    ids = draw_ids()
    ids[2, 3:6, 4:7] = UNKNOWN
    found = learn_affinities(ids, OFFSETS)
    for k, offset in enumerate(OFFSETS):
        for voxel in np.ndindex(ids.shape):
            other = tuple(a + b for a, b in zip(voxel, offset, strict=True))
            sides = zip(other, ids.shape, strict=True)
            expected = 255
            if all(0 <= a < n for a, n in sides):
                one, two = int(ids[voxel]), int(ids[other])
                if UNKNOWN not in (one, two):
                    expected = int(one == two != 0)
            assert found[(k, *voxel)] == expected
    assert set(np.unique(found)) == {0, 1, 255}


def test_what_nobody_annotated_has_no_id():
    ids = draw_ids()
    volume = volume_of(ids, unlabelled=3)
    volume.target[0, 0, 0] = 255
    (stack,) = volume.stacks(3)
    found = read_affinity_ids(stack, whole_volume(ids.shape))
    assert found[0, 0, 0] == UNKNOWN
    rest = np.where(ids == 3, UNKNOWN, ids)
    rest[0, 0, 0] = UNKNOWN
    np.testing.assert_array_equal(found, rest)
    mirrored = read_affinity_ids(stack, Roi((0, 0, -2), (1, 2, 2)))
    np.testing.assert_array_equal(mirrored[0, 1], rest[0, 1, [2, 1, 0, 1]])


@pytest.mark.parametrize("largest", [1, 2**24])
def test_pairs_are_counted_once_whatever_is_held_at_a_time(monkeypatch, largest):
    monkeypatch.setattr(affinities, "LARGEST_SLAB", largest)
    ids = draw_ids()
    counts = count_affinity_pairs([volume_of(ids, unlabelled=3)], 3, OFFSETS)
    whole = learn_affinities(np.where(ids == 3, UNKNOWN, ids), OFFSETS)
    for count, affinity in zip(counts, whole, strict=True):
        assert count.tolist() == [np.sum(affinity == k) for k in (0, 1)]


def test_pairs_do_not_reach_into_sections_of_another_role():
    ids = draw_ids()
    two = volume_of(ids, sections=(0, 1, 3, 4))
    across = count_affinity_pairs([two], 3, OFFSETS[:1])
    apart = [learn_affinities(ids[a:b], OFFSETS[:1]) for a, b in ((0, 2), (3, 5))]
    assert across.sum() == sum(np.sum(found != 255) for found in apart)


def test_both_kinds_of_pairs_weigh_alike_at_each_offset():
    counts = count_affinity_pairs([volume_of(draw_ids())], 3, OFFSETS)
    weighed = balance_pairs(counts) * counts
    np.testing.assert_allclose(weighed[:, 0], weighed[:, 1], rtol=1e-5)


def test_boxes_alone_are_counted_where_labels_lie_in_boxes():
    ids = draw_ids()
    box = Roi((0, 2, 2), (5, 8, 9))
    boxed = replace(volume_of(ids), boxes=(box,))
    assert count_affinity_pairs([boxed], 3, OFFSETS[1:2]).sum() == box.num_voxels
