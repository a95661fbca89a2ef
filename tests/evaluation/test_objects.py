"""Scores of objects from tables that chunks add to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.metrics.oracles import mean_average_precision
from tests.metrics.test_instances import challenge_frame
from unetpipe.evaluation.object_rows import MATCHED, PARTITIONS
from unetpipe.evaluation.objects import ObjectCounts
from unetpipe.evaluation.score_rows import METRICS
from unetpipe.metrics.cell_tracking import match_seg_references
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.instances import match_instances

SHAPE = (3, 6, 8)
ALL = {*MATCHED, *PARTITIONS, "ctc_seg", "ctc_det"}

volumes = arrays(np.int64, SHAPE, elements=st.integers(0, 5))
masks = arrays(np.bool_, SHAPE)


def count(truth, result, *, unknown=None, border=0, by_section=True, boxes=None):
    """Count a volume in boxes: slices of y and x, the whole section by default."""
    counts = ObjectCounts(by_section=by_section)
    unknown = np.zeros(truth.shape, bool) if unknown is None else unknown
    field = np.zeros(truth.shape[1:], bool)
    field[border : field.shape[0] - border, border : field.shape[1] - border] = True
    for z in range(len(truth)):
        for inside in boxes or [np.s_[:, :]]:
            counts.add(
                *(z, truth[z][inside], result[z][inside]),
                *(unknown[z][inside], field[inside]),
            )
    return counts


def scores_of(counts):
    return {row.metric: row for row in counts.rows("unet", 0.5)}


def score(counts, metric):
    return scores_of(counts)[metric].chosen.score


def test_every_metric_has_one_row():
    truth, result = (np.stack([frame] * 2) for frame in challenge_frame())
    rows = list(count(truth, result).rows("unet", 0.5))
    assert {row.metric for row in rows} == ALL
    assert len(rows) == len(ALL)
    for row in rows:
        assert row.definition.startswith(METRICS[row.metric].definition)
        assert row.chosen.threshold == 0.5
        assert len(row.per_section) == row.num_sections == 2


def test_the_challenge_frames_score_as_published():
    truth, result = (np.stack([frame] * 2) for frame in challenge_frame())
    counts = count(truth, result)
    assert score(counts, "ctc_seg") == pytest.approx(0.32, abs=1e-12)
    assert score(counts, "ctc_det") == pytest.approx(0.46, abs=1e-12)


def test_a_perfect_result_scores_perfectly():
    truth, _ = challenge_frame()
    found = scores_of(count(truth[None], 7 * truth[None]))
    for metric, row in found.items():
        perfect = 1 if METRICS[metric].better == "higher" else 0
        assert row.chosen.score == pytest.approx(perfect, abs=1e-12), metric


@given(volumes, volumes, masks, st.integers(0, 2), st.booleans())
@settings(deadline=None, max_examples=20)
def test_boxes_in_any_order_add_up_to_the_whole(
    truth, result, unknown, border, by_section
):
    boxes = [np.s_[3:, 5:], np.s_[:3, :5], np.s_[3:, :5], np.s_[:3, 5:]]
    settings_ = {"unknown": unknown, "border": border, "by_section": by_section}
    whole = count(truth, result, **settings_)
    cut = count(truth, result, boxes=boxes, **settings_)
    assert list(cut.rows("unet", None)) == list(whole.rows("unet", None))
    assert cut.sizes() == whole.sizes()


@given(volumes, volumes)
@settings(deadline=None, max_examples=20)
def test_images_are_scored_one_by_one_then_averaged(truth, result):
    tables = [
        ContingencyTable.from_arrays(a, b) for a, b in zip(truth, result, strict=True)
    ]
    matches = [match_instances(table) for table in tables]
    found = scores_of(count(truth, result))["average_precision"]
    assert found.chosen.score == pytest.approx(mean_average_precision(matches))
    assert found.per_section == pytest.approx(
        [match.average_precision for match in matches]
    )


def test_the_largest_ids_cost_no_memory():
    truth, result = challenge_frame()
    large = np.where(truth > 0, truth.astype(np.uint64) + np.uint64(2**63), 0)
    assert list(count(large[None], result[None]).rows("unet", None)) == list(
        count(truth[None], result[None]).rows("unet", None)
    )


def sparse_frame():
    """Object 1 of the challenge's frame is annotated; nothing else is known."""
    truth, result = challenge_frame()
    return np.where(truth == 1, 1, 0)[None], result[None], (truth != 1)[None]


def test_of_a_sparse_frame_only_annotated_objects_count():
    truth, result, unknown = sparse_frame()
    found = scores_of(count(truth, result, unknown=unknown))
    assert found["ctc_seg"].chosen.score == pytest.approx(0.8)
    for metric in (*MATCHED, "ctc_det"):
        assert found[metric].chosen.score is None, "background is unknown"
        assert found[metric].num_sections == 0


def test_what_a_result_puts_into_the_unknown_still_enlarges_its_union():
    truth, result, unknown = sparse_frame()
    result[0, 12:14, 1:9] = 1
    expected = match_seg_references(ContingencyTable.from_arrays(truth, result)).seg
    assert expected < 0.8
    assert score(count(truth, result, unknown=unknown), "ctc_seg") == expected


def test_known_background_around_the_unknown_makes_inventions_count():
    truth, result, unknown = sparse_frame()
    unknown[0, 19:, 19:] = False  # object 9 lies in known background
    counts = count(truth, result, unknown=unknown)
    assert score(counts, "f1") == pytest.approx(2 / 3)  # 2 and 7 are in the void


def test_sections_without_annotation_are_left_out():
    truth, result = (np.stack([frame] * 2) for frame in challenge_frame())
    unknown = np.zeros(truth.shape, bool)
    unknown[1] = True
    counts = count(truth, result, unknown=unknown)
    assert counts.numbers == [0]
    assert score(counts, "ctc_seg") == pytest.approx(0.32)
    assert scores_of(counts)["f1"].num_sections == 1


def test_objects_beyond_the_field_of_interest_do_not_count():
    truth, result = challenge_frame()
    everywhere, inside = (count(truth[None], result[None], border=b) for b in (0, 4))
    assert score(inside, "ctc_det") > score(everywhere, "ctc_det")  # 9 is gone
    assert score(inside, "ctc_seg") == score(everywhere, "ctc_seg")
    assert score(inside, "f1") > score(everywhere, "f1")


def test_markers_decide_on_detection():
    truth, result = challenge_frame()
    unknown = np.ones((1, *truth.shape), bool)
    counts = count(np.zeros_like(truth)[None], result[None], unknown=unknown)
    markers = np.zeros_like(truth)
    markers[4:6, 4:6] = 5  # inside result 1
    markers[0, 20:] = 6  # where nothing was found
    counts.add_markers(0, markers, result, np.ones(truth.shape, bool))
    assert counts.numbers == [0]
    # one missed, three invented, of two
    assert score(counts, "ctc_det") == pytest.approx(1 - (10 + 3) / 20)
    assert score(counts, "ctc_seg") is None


def test_an_object_that_spans_sections_is_one():
    truth = np.stack([challenge_frame()[0]] * 2)
    counts = count(truth, truth, by_section=False)
    row = scores_of(counts)["f1"]
    assert counts.sizes().truth == (0, 0, 0, 0, 2, 2, 0, 1)  # 16 16 32 40 200
    assert (row.n, row.n_of, row.per_section) == (5, "objects", None)
    assert row.num_sections == 2
    assert scores_of(counts)["vi_split"].n_of == "volumes"


def test_a_single_image_resamples_its_objects():
    truth, result = challenge_frame()
    row = scores_of(count(truth[None], result[None]))["f1"]
    low, high = row.interval
    assert low < row.chosen.score < high
    assert (row.n, row.n_of) == (8, "objects")  # 1 hit, 4 missed, 3 invented


def test_variation_of_information_is_told_in_nats_and_bits():
    truth = np.ones((1, 4, 4), int)
    result = truth.copy()
    result[:, :2] = 2
    found = scores_of(count(truth, result))
    assert found["vi_split"].chosen.score == pytest.approx(np.log(2))
    assert found["vi_split_bits"].chosen.score == pytest.approx(1)
    assert (found["vi_split"].unit, found["vi_split_bits"].unit) == (
        "nats",
        "bits",
    )
    assert found["vi_merge"].chosen.score == 0


def squares(*places, shape=(30, 30)):
    """Objects of 4 x 4 voxels, ids from 1."""
    frame = np.zeros(shape, int)
    for number, (y, x) in enumerate(places, start=1):
        frame[y : y + 4, x : x + 4] = number
    return frame


@pytest.mark.parametrize(
    ("inventions", "expected"), [(0, 1.0), (5, 0.5), (9, 0.1), (20, 0.0)]
)
def test_inventions_in_frames_without_cells_count_for_detection(inventions, expected):
    cell, nothing = squares((2, 2)), squares()
    invented = squares(*((5 * (i // 5), 5 * (i % 5)) for i in range(inventions)))
    found = count(np.stack([cell, nothing]), np.stack([cell, invented]))
    assert score(found, "ctc_det") == pytest.approx(expected)


def test_detection_of_frames_that_hold_nothing_at_all_is_undefined():
    assert score(count(squares()[None], squares()[None]), "ctc_det") is None


def test_outside_the_field_of_interest_nothing_counts():
    """Of a cell that reaches into the field the inside counts, for SEG all of it."""
    truth = squares((2, 3), (12, 12))
    result = truth.copy()
    result[25:29, 25:29] = 9  # a cell of the rim, which nobody annotated
    result[:5, 10:20] = 8
    found = scores_of(count(truth[None], result[None], border=5))
    for metric in ("f1", "ctc_seg", "ctc_det", "average_precision"):
        assert found[metric].chosen.score == 1, metric
    whole = scores_of(count(truth[None], result[None]))
    assert whole["f1"].chosen.score < 1
    cut = np.where(truth == 1, 0, truth)
    cut[4:6, 3:7] = 1  # half of the first cell, that inside the field
    assert scores_of(count(truth[None], cut[None], border=4))[
        "ctc_seg"
    ].chosen.score == pytest.approx(0.5)


def test_markers_of_the_rim_count_for_nothing():
    """Nor does an object that covers such a marker and reaches into the field."""
    markers = np.zeros((30, 30), int)
    markers[3, 3], markers[15, 15] = 1, 2
    result = squares((2, 2), (13, 13))
    result[0:8, 0:8] = 1
    counts = ObjectCounts(by_section=True)
    field = np.zeros((30, 30), bool)
    field[5:25, 5:25] = True
    counts.add(0, np.zeros_like(markers), result, ~np.zeros_like(field), field)
    counts.add_markers(0, markers, result, field)
    assert score(counts, "ctc_det") == 1
    result[20:24, 5:9] = 7
    counts = ObjectCounts(by_section=True)
    counts.add(0, np.zeros_like(markers), result, ~np.zeros_like(field), field)
    counts.add_markers(0, markers, result, field)
    assert score(counts, "ctc_det") == pytest.approx(0.9)
