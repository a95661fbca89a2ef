"""Of many predictions the worst come first, and each has its line."""

from types import SimpleNamespace as Some

import pytest

from unetpipe.report.page.many import MOST_DETAILED, leading_row, list_results
from unetpipe.report.page.many import worst_first as ordered


def scored(role: str, **scores: float):
    better = {"v_rand": "higher", "rand_error": "lower"}
    rows = {
        name: Some(metric=name, score=score, better=better[name])
        for name, score in scores.items()
    }
    return Some(leading=tuple(scores), all_tables=[Some(role=role, ours=rows)])


def result(volume: str, metrics=None):
    tested = (0,) if metrics and metrics.all_tables[0].role == "test" else ()
    made = Some(num_objects=1234, num_foreground_voxels=25)
    return Some(
        volume=volume,
        metrics=metrics,
        tested=tested,
        segmentation=made,
        folder=f"unet/{volume}",
    )


def test_the_worst_tested_come_first_and_those_without_scores_last() -> None:
    results = [
        result("none"),
        result("validated", scored("validate", v_rand=0.1)),
        result("good", scored("test", v_rand=0.9)),
        result("bad", scored("test", v_rand=0.2)),
        result("undefined", scored("test", v_rand=None)),
    ]
    names = [one.volume for one in ordered(results)]
    assert names == ["bad", "good", "validated", "none", "undefined"]


def test_of_errors_the_largest_is_the_worst() -> None:
    results = [result(n, scored("test", rand_error=e)) for n, e in (("a", 0), ("b", 1))]
    assert [one.volume for one in ordered(results)] == ["b", "a"]


def test_the_score_that_counts_is_the_first_that_is_known() -> None:
    row = leading_row(scored("test", v_rand=None, rand_error=0.3))
    assert (row.metric, row.score) == ("rand_error", 0.3)
    assert leading_row(None) is None


@pytest.mark.parametrize("count", [MOST_DETAILED, MOST_DETAILED + 1])
def test_many_have_a_line_each(count: int) -> None:
    results = [result(f"v{n}", scored("test", v_rand=0.5)) for n in range(count)]
    volumes = {one.volume: Some(shape=(1, 10, 10)) for one in results}
    lines = list_results(Some(results=results, volumes=volumes))
    assert len(lines) == (count if count > MOST_DETAILED else 0)
    for line in lines[:1]:
        assert line | {"metric": "", "score": ""} == {
            "volume": "v0",
            "role": "test",
            "score": "",
            "metric": "",
            "num_objects": "1,234",
            "foreground": "25.0",
            "folder": "unet/v0",
        }
        assert line["score"].startswith("0.5")
