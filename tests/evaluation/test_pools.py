"""What volumes contribute is scored together as one volume of all sections would be."""

import numpy as np
import pytest
from scipy import ndimage

from unetpipe.evaluation.objects import ObjectCounts
from unetpipe.evaluation.pixels import PixelCounts, class_score_rows
from unetpipe.evaluation.pools import pool, split_scores
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.metrics import OverlapTerms, SectionScores

NUM, SIDE = 5, 48
OBJECTS = {
    *("f1", "average_precision", "panoptic_quality", "ctc_seg", "ctc_det"),
    *("vi_split", "vi_merge", "vi_split_bits", "vi_merge_bits", "adapted_rand_error"),
}


def drawn(seed=0):
    """Return true and found ids, (z, y, x), the later sections the worse."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(NUM, SIDE, SIDE)), (0, 3, 3))
    wrong = noise + np.linspace(0.01, 0.06, NUM)[:, None, None] * rng.normal(
        size=noise.shape
    )
    return [
        np.stack([ndimage.label(s > 0.03)[0] for s in part]) for part in (noise, wrong)
    ]


def count_objects(numbers, *, by_section=True, seed=0):
    truth, result = drawn(seed)
    counts = ObjectCounts(by_section=by_section)
    nothing = np.zeros((SIDE, SIDE), bool)
    for z in numbers:
        counts.add(z, truth[z], result[z], nothing, ~nothing)
    return counts


def count_voxels(numbers, num_classes):
    rng = np.random.default_rng(1)
    truth = rng.integers(0, num_classes, (NUM, SIDE, SIDE))
    found = np.where(rng.random(truth.shape) < 0.3, 0, truth).astype(np.uint8)
    counts = PixelCounts(num_classes)
    stored = found * 255 if num_classes == 2 else found
    for z in numbers:
        counts.add(z, stored[z], truth[z], np.zeros((SIDE, SIDE), bool))
    return counts.confusion(0.5)


def written(numbers, *, objects=None, confusion=None):
    """Return what of some sections goes into a record and comes out of it."""
    told = {"role": "test", "predictor": "unet"}
    overlap = OverlapTerms(
        **told, sections=numbers, confusion=() if confusion is None else confusion
    )
    record = SectionScores(
        volume="a",
        definitions={},
        rows=(),
        overlap=() if confusion is None else (overlap,),
        objects=() if objects is None else (objects.describe("test", "unet"),),
        circumstances=Circumstances.here(),
    )
    return SectionScores.model_validate_json(record.model_dump_json(by_alias=True))


def scores_of(rows):
    return {row.metric: row.chosen.score for row in rows}


def pooled(*records, shared=()):
    return pool(split_scores(record, shared)[0] for record in records)


def test_objects_of_two_volumes_score_as_those_of_one():
    parts = [(0, 1), (2, 3, 4)]
    rows = pooled(*(written(part, objects=count_objects(part)) for part in parts))
    whole = list(count_objects(range(NUM)).rows("unet", None))
    assert {row.metric for row in rows} == OBJECTS
    assert scores_of(rows) == pytest.approx(scores_of(whole), abs=1e-12)
    single = [next(count_objects(part).rows("unet", None)) for part in parts]
    assert single[0].score != pytest.approx(single[1].score), "a mean would differ"
    by_metric = {row.metric: row for row in rows}
    assert by_metric["f1"].num_sections == NUM
    assert by_metric["f1"].n_of == "sections"
    low, high = by_metric["f1"].interval
    assert low <= by_metric["f1"].score <= high
    for mine, of_whole in zip(rows, whole, strict=True):
        assert mine.per_section == pytest.approx(of_whole.per_section)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_overlap_of_two_volumes_is_that_of_one(num_classes):
    parts = [(0, 1), (2, 3, 4)]
    rows = pooled(
        *(written(part, confusion=count_voxels(part, num_classes)) for part in parts)
    )
    whole = class_score_rows("unet", count_voxels(range(NUM), num_classes), None)
    assert scores_of(rows) == scores_of(whole)
    assert ("dice_mean" in scores_of(rows)) == (num_classes > 2)


def test_counts_of_volumes_whose_objects_span_sections_are_added_up():
    seeds = (0, 1)
    volumes = [count_objects(range(NUM), by_section=False, seed=s) for s in seeds]
    rows = pooled(*(written(tuple(range(NUM)), objects=each) for each in volumes))
    f1 = next(row for row in rows if row.metric == "f1")
    assert (f1.n, f1.n_of, f1.num_sections) == (2, "volumes", 2 * NUM)
    terms = sum(np.array(v.describe("test", "unet").matched[0]) for v in volumes)
    assert f1.score == pytest.approx(2 * terms[3] / (terms[0] + terms[1]))


def test_sections_that_all_share_are_taken_out_of_the_counts():
    record = written(range(NUM), objects=count_objects(range(NUM)))
    own, shared, is_whole = split_scores(record, [3, 4])
    assert is_whole
    for part, numbers in ((own, (0, 1, 2)), (shared, (3, 4))):
        expected = scores_of(count_objects(numbers).rows("unet", None))
        assert scores_of(pool([part])) == pytest.approx(expected, abs=1e-12)


def test_objects_that_span_sections_of_both_kinds_are_in_neither():
    counts = count_objects(range(NUM), by_section=False)
    record = written(range(NUM), objects=counts)
    own, shared, is_whole = split_scores(record, [3, 4])
    assert (own.objects, shared.objects, is_whole) == ({}, {}, False)
    assert split_scores(record, "all")[2]


def test_an_image_without_objects_adds_nothing_to_seg_and_counts_for_f1():
    truth, result = drawn()
    nothing = np.zeros((SIDE, SIDE), bool)
    counts = ObjectCounts(by_section=True)
    counts.add(0, truth[0], result[0], nothing, ~nothing)
    counts.add(1, np.zeros_like(truth[1]), result[1], nothing, ~nothing)
    (own,) = [pooled(written((0, 1), objects=counts))]
    alone = scores_of(count_objects([0]).rows("unet", None))
    assert scores_of(own)["ctc_seg"] == pytest.approx(alone["ctc_seg"])
    assert scores_of(own)["f1"] < alone["f1"]
