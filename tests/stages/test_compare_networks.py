"""Folds are pooled over what each alone was tested on; what all saw stands apart."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.metrics.oracles import as_columns
from unetpipe.evaluation.folds import terms_of_scored_sections
from unetpipe.evaluation.thresholds import ThresholdScores
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.metrics import ObjectTerms, SectionScores
from unetpipe.runtime.files import read_record
from unetpipe.stages.compare_networks import compare_networks

CHOSEN = 0.5
METRICS = ("v_rand", "pixel_error")


class Scored:
    """Networks with the scores of made-up sections, as evaluate_prediction has them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.networks: list[dict[str, Any]] = []
        self.sections: list[Path] = []

    def add(
        self,
        model: str,
        volume: str,
        sections: dict[int, int],
        objects: float | None = None,
        spanning: bool = False,
        **about: Any,
    ) -> None:
        """Add test sections: number -> seed of its noise, the worse the larger.

        ``objects`` is the SEG and the F1 of ten objects in each.
        """
        home = self.folder / model / volume
        scores = curves_of(sections)
        rows = [
            terms_of_scored_sections(
                "test", "unet", scores[metric], sections=list(sections), chosen=CHOSEN
            )
            for metric in METRICS
        ]
        SectionScores(
            volume=volume,
            definitions={},
            rows=tuple(rows),
            objects=tuple(
                objects_of(share, sections, spanning) for share in [objects] if share
            ),
            circumstances=Circumstances.here(),
        ).write(home / "section_scores.json")
        told = {"variant": "", "fold": "", "seed": 0, "shared": [], "is_joined": False}
        self.networks.append({"model": model, "volume": volume, **told, **about})
        self.sections.append(home / "section_scores.json")

    def compare(self, **variants: Any) -> dict[str, Any]:
        compare_networks(
            networks=self.networks,
            variants=variants,
            sections=self.sections,
            record=self.folder / "comparison.json",
        )
        return read_record(self.folder / "comparison.json")


def objects_of(score: float, sections: Iterable[int], spanning: bool) -> ObjectTerms:
    """Return ten objects of each image, of which that share was found."""
    images = [tuple(sections)] if spanning else [(z,) for z in sections]
    hits = 10 * score
    return ObjectTerms(
        **{"role": "test", "predictor": "unet", "images": images},
        matched=[(10, 10, hits, *[hits] * 10)] * len(images),
        partitions=[(0.0,) * 5] * len(images),
        seg=[(hits, 10)] * len(images),
        det=[(100 - 10 * hits, 100)] * len(images),
    )


def curves_of(sections: dict[int, int]):
    """Return the curves over thresholds of sections of cells under noise."""
    cells = np.ones((32, 32), bool)
    cells[::10], cells[:, ::13] = False, False
    scores = ThresholdScores(warping=None)
    for number, seed in enumerate(sections.values()):
        noise = np.random.default_rng(seed).normal(0, 0.1 + 0.05 * seed, cells.shape)
        probability = np.clip(0.2 + 0.6 * cells + noise, 0, 1)
        scores.add(number, *as_columns(probability, cells))
    return scores.curves()


def at_chosen(metric: str, sections: dict[int, int]) -> float:
    curve = curves_of(sections)[metric]
    terms = curve.terms[:, curve.index_of(CHOSEN)]
    return float(curve.score(terms.sum(axis=0)))


def find(rows: list[dict[str, Any]], metric: str) -> dict[str, Any]:
    (row,) = [row for row in rows if row["metric"] == metric]
    return row


@pytest.fixture
def folds(tmp_path: Path) -> Scored:
    """Two folds on two sections each of a stack, both on the same test stack."""
    scored = Scored(tmp_path)
    scored.add("fold-1", "stack", {0: 0, 2: 1}, fold="1")
    scored.add("fold-1", "challenge", {0: 4, 1: 5}, fold="1", shared="all")
    scored.add("fold-2", "stack", {1: 2, 3: 3}, fold="2")
    scored.add("fold-2", "challenge", {0: 6, 1: 7}, fold="2", shared="all")
    return scored


@pytest.mark.parametrize("metric", METRICS)
def test_what_all_networks_were_scored_on_is_no_part_of_the_folds(
    folds, metric
) -> None:
    (table,) = folds.compare()["variants"]
    row = find(table["rows"], metric)
    assert row["num_sections"] == 4
    expected = at_chosen(metric, dict(enumerate(range(4))))
    assert row["chosen"]["score"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_the_mean_and_range_over_networks_stand_apart_with_the_ensembles_score(
    folds, metric
) -> None:
    folds.add("ensemble", "challenge", {0: 2, 1: 8}, shared="all", is_joined=True)
    (table,) = folds.compare()["shared"]
    assert table["models"] == ["fold-1", "fold-2"]
    assert table["volumes"] == ["challenge"]
    assert table["ensemble"]["model"] == "ensemble"
    single = [at_chosen(metric, {0: 4, 1: 5}), at_chosen(metric, {0: 6, 1: 7})]
    row = find(table["rows"], metric)
    assert row["num_sections"] == 2
    assert row["chosen"]["n"] == 2
    for key, value in (("score", np.mean), ("lowest", min), ("highest", max)):
        assert row["chosen"][key] == pytest.approx(value(single), abs=1e-12)
    assert [each["model"] for each in row["models"]] == table["models"]
    own = find(table["ensemble"]["rows"], metric)
    expected = at_chosen(metric, {0: 2, 1: 8})
    assert own["chosen"]["score"] == pytest.approx(expected, abs=1e-12)


def test_without_shared_sections_there_is_no_second_table(tmp_path: Path) -> None:
    scored = Scored(tmp_path)
    for seed in range(2):
        scored.add(f"seed-{seed}", "stack", {0: seed, 1: 5}, seed=seed)
    record = scored.compare()
    assert record["shared"] == []
    (table,) = record["variants"]
    assert find(table["rows"], "v_rand")["chosen"]["n"] == 2


def test_a_volume_with_sections_of_both_kinds_is_split_by_section(
    tmp_path: Path,
) -> None:
    scored = Scored(tmp_path)
    scored.add("fold-1", "stack", {0: 0, 3: 8}, fold="1", shared=[3], objects=0.5)
    scored.add("fold-2", "stack", {1: 1, 3: 9}, fold="2", shared=[3], objects=0.7)
    scored.add("ensemble", "stack", {3: 2}, shared=[3], is_joined=True, objects=0.9)
    record = scored.compare()
    (own,), (shared,) = record["variants"], record["shared"]
    both = find(own["rows"], "v_rand")["chosen"]["score"]
    assert both == pytest.approx(at_chosen("v_rand", {0: 0, 1: 1}), abs=1e-12)
    row = find(shared["rows"], "v_rand")
    single = [each["chosen"]["score"] for each in row["models"]]
    expected = [at_chosen("v_rand", {3: seed}) for seed in (8, 9)]
    assert single == pytest.approx(expected, abs=1e-12)
    for metric in ("ctc_seg", "f1"):
        assert find(own["rows"], metric)["chosen"]["score"] == pytest.approx(0.6)
        chosen = find(shared["rows"], metric)["chosen"]
        assert (chosen["lowest"], chosen["highest"]) == (0.5, 0.7)
        assert find(shared["ensemble"]["rows"], metric)["chosen"]["score"] == 0.9
    assert "left_out" not in record or record["left_out"] == []


def test_objects_that_span_sections_of_both_kinds_are_told_to_be_left_out(
    tmp_path: Path, caplog
) -> None:
    scored = Scored(tmp_path)
    about = {"shared": [3], "objects": 0.5, "spanning": True}
    scored.add("fold-1", "stack", {0: 0, 3: 8}, fold="1", **about)
    scored.add("fold-2", "stack", {1: 1, 3: 9}, fold="2", **about)
    with caplog.at_level(logging.WARNING):
        record = scored.compare()
    (own,), (shared,) = record["variants"], record["shared"]
    assert {row["metric"] for row in own["rows"]} == set(METRICS)
    assert {row["metric"] for row in shared["rows"]} == set(METRICS)
    assert len(record["left_out"]) == 2
    assert record["left_out"][0] in caplog.text
    assert record["left_out"][0].startswith("stack by fold-1: objects span sections")


def test_scores_of_objects_are_pooled_apart_too(tmp_path: Path) -> None:
    scored = Scored(tmp_path)
    for fold, own, other in (("1", 0.5, 0.8), ("2", 0.7, 0.4)):
        about = {"fold": fold}
        scored.add(f"fold-{fold}", "stack", {int(fold): 0}, own, **about)
        scored.add(f"fold-{fold}", "challenge", {0: 0}, other, **about, shared="all")
    record = scored.compare()
    (own,), (shared,) = record["variants"], record["shared"]
    for metric in ("ctc_seg", "f1", "panoptic_quality", "average_precision"):
        score = find(own["rows"], metric)["chosen"]["score"]
        worse, better = {"average_precision": (1 / 3, 7 / 13)}.get(metric, (0.5, 0.7))
        assert score == pytest.approx((worse + better) / 2), metric
    chosen = find(shared["rows"], "f1")["chosen"]
    assert (chosen["lowest"], chosen["highest"]) == (0.4, 0.8)
    assert "f1" in record["definitions"]


def test_variants_differ_on_shared_sections_too(tmp_path: Path) -> None:
    scored = Scored(tmp_path)
    for variant, seed in (("paper", 0), ("other", 9)):
        for fold in "12":
            about = {"variant": variant, "fold": fold}
            name = f"{variant}-fold-{fold}"
            scored.add(name, "challenge", {0: seed + int(fold)}, **about, shared="all")
    record = scored.compare(paper={}, other={"training": {"steps": 1}})
    assert [table["rows"] for table in record["variants"]] == [[], []]
    first, second = record["shared"]
    assert (first["variant"], second["variant"]) == ("paper", "other")
    assert first["ensemble"] is None
    one, two = (find(table["rows"], "v_rand")["chosen"] for table in (first, second))
    assert two["difference"] == pytest.approx(two["score"] - one["score"])
    assert "difference" not in one
