"""Pooled folds score as the whole stack would."""

import numpy as np
import pytest

from tests.metrics.oracles import as_columns
from tests.variants import mostly_slow
from unetpipe.errors import DataError
from unetpipe.evaluation.folds import (
    pool_terms,
    read_terms,
    spread_over_seeds,
    terms_of_scored_sections,
)
from unetpipe.evaluation.score_rows import make_score_row
from unetpipe.evaluation.thresholds import ThresholdScores
from unetpipe.records.metrics import SectionTerms


def scored(probability, cells):
    scores = ThresholdScores(warping="all")
    for number, (section, mask) in enumerate(zip(probability, cells, strict=True)):
        scores.add(number, *as_columns(section, mask))
    return scores.curves()


def stored(curve, chosen):
    described = terms_of_scored_sections(
        "test", "unet", curve, sections=[0, 1], chosen=chosen
    )
    return read_terms(SectionTerms.model_validate_json(described.model_dump_json()))


@pytest.fixture(scope="module")
def stack():
    generator = np.random.default_rng(3)
    cells = np.ones((5, 40, 40), bool)
    cells[:, ::10] = False
    cells[:, :, ::13] = False
    noise = generator.normal(0, 0.25, cells.shape)
    return np.clip(0.2 + 0.6 * cells + noise, 0, 1).astype(np.float32), cells


METRICS = (
    "pixel_error",
    "rand_error",
    "v_rand",
    "v_info",
    "warping_error",
    "classic_warping_error",
)


@pytest.mark.parametrize("metric", mostly_slow(METRICS, quick=["v_rand"]))
def test_one_threshold_for_all_folds_gives_the_score_of_the_stack(stack, metric):
    probability, cells = stack
    whole = scored(probability, cells)[metric]
    best = whole.best()
    folds = [
        stored(scored(probability[part], cells[part])[metric], best.threshold)
        for part in (slice(0, 2), slice(2, 5))
    ]
    row = pool_terms("unet", metric, folds)
    assert row.best.threshold == best.threshold
    assert row.best.score == pytest.approx(best.score, abs=1e-12)
    assert row.chosen.score == pytest.approx(best.score, abs=1e-12)
    assert row.per_section == pytest.approx(whole.sections_at(best.threshold))
    assert row.n == 5


def test_each_fold_keeps_the_threshold_that_its_validation_chose(stack):
    probability, cells = stack
    curves = [
        scored(probability[part], cells[part])["v_rand"]
        for part in (slice(0, 2), slice(2, 5))
    ]
    row = pool_terms(
        "unet",
        "v_rand",
        [stored(c, t) for c, t in zip(curves, (0.3, 0.6), strict=True)],
    )
    expected = [*curves[0].sections_at(0.3), *curves[1].sections_at(0.6)]
    assert row.per_section == pytest.approx(expected)
    assert row.chosen.score == pytest.approx(np.mean(expected))
    assert row.chosen.threshold is None
    low, high = row.interval
    assert min(expected) <= low <= np.mean(expected) <= high <= max(expected)


def test_without_validation_there_is_only_the_best_threshold(stack):
    probability, cells = stack
    curve = scored(probability, cells)["rand_error"]
    row = pool_terms("unet", "rand_error", [stored(curve, None)])
    assert row.chosen is None
    assert row.best.score == pytest.approx(curve.best().score)


def test_folds_of_different_thresholds_are_refused(stack):
    probability, cells = stack
    curves = scored(probability, cells)
    folds = [stored(curves["v_rand"], 0.5), stored(curves["warping_error"], 0.5)]
    with pytest.raises(DataError, match="fold 0 was scored at"):
        pool_terms("unet", "v_rand", folds)


def test_folds_keep_the_threshold_of_their_masks_wherever_it_lies(stack):
    probability, cells = stack
    folds, expected = [], []
    for part, threshold in ((slice(0, 2), 0.37), (slice(2, 5), 0.6)):
        scores = ThresholdScores(warping=None, delivered=threshold)
        for number in range(part.start, part.stop):
            scores.add(number, *as_columns(probability[number], cells[number]))
        curve = scores.curves()["v_rand"]
        folds.append(stored(curve, threshold))
        expected += curve.sections_at(threshold).tolist()
    row = pool_terms("unet", "v_rand", folds)
    assert row.per_section == pytest.approx(expected)
    assert row.chosen.score == pytest.approx(np.mean(expected))


def row_of(metric, score):
    return make_score_row("unet", metric, chosen=(0.5, score), num_sections=2)


def test_seeds_are_summarised_and_compared_with_the_first_variant():
    first = spread_over_seeds(
        {s: [row_of("ctc_seg", v)] for s, v in ((0, 0.5), (1, 0.7))}
    )
    (row,) = first
    assert row.chosen.score == pytest.approx(0.6)
    assert (row.chosen.lowest, row.chosen.highest) == (0.5, 0.7)
    assert [single.seed for single in row.seeds] == [0, 1]
    (other,) = spread_over_seeds({0: [row_of("ctc_seg", 0.4)]}, against=first)
    assert other.chosen.difference == pytest.approx(-0.2)
