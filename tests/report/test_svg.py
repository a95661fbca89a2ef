"""Charts: well-formed, told in words, the same bytes for the same numbers."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.stages.reported import metrics_of, scored
from unetpipe.records.metrics import Metrics, Seams
from unetpipe.report.page.charts import (
    plot_calibration,
    plot_seams,
    plot_sizes,
    plot_thresholds,
    plot_training,
)
from unetpipe.report.page.svg import (
    Estimate,
    Line,
    Mark,
    bar_chart,
    interval_chart,
    line_chart,
    short_number,
    standalone_svg,
    thin,
    ticks,
)
from unetpipe.training.history import HistoryRow


def parsed(chart) -> ElementTree.Element:
    return ElementTree.fromstring(str(chart))


def words(chart) -> list[str]:
    return [element.text for element in parsed(chart).iter("text")]


def test_a_line_goes_through_its_points() -> None:
    chart = line_chart(
        "Score", [Line([(0, 0), (1, 0.5), (2, 1)])], x_label="step", y=(0, 1)
    )
    (path,) = re.findall(r'class="line s0" d="M([^"]+)"', chart)
    places = [tuple(map(float, pair.split())) for pair in path.split("L")]
    # From the left edge of the plot to the right, and from its bottom to its top.
    assert places == [(46.0, 166.0), (179.0, 96.0), (312.0, 26.0)]


def test_a_chart_tells_its_title_axis_and_ends_to_those_who_cannot_see_it() -> None:
    lines = [Line([(0, 0.25), (10, 0.75)], "V-Rand")]
    chart = line_chart("Score", lines, x_label="step")
    assert parsed(chart).get("role") == "img"
    assert parsed(chart).get("aria-label") == (
        "Score over step: V-Rand from 0.25 to 0.75"
    )


def test_names_are_escaped() -> None:
    lines = [Line([(0, 1), (1, 2)], "<b>&")]
    chart = line_chart("a < b", lines, x_label='"x"', marks=[Mark(0.5, "<u>")])
    assert {"a < b", "<b>&", '"x"', "<u>"} <= set(words(chart))


@pytest.mark.parametrize(
    "points",
    [[(0, 0)], [(5, 3), (5, 3)], [(0, -1), (1, -1)], [(0, 1e-9), (1, 2e-9)]],
)
def test_flat_single_tiny_and_negative_lines_can_be_drawn(points) -> None:
    assert "nan" not in line_chart("t", [Line(points)], x_label="x")


def test_without_points_the_chart_says_so() -> None:
    assert "no validation rows" in words(
        line_chart("t", [Line([])], x_label="x", note="no validation rows")
    )


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 3000) == [0, 1000, 2000, 3000]
    assert ticks(0.937, 0.982) == [0.94, 0.95, 0.96, 0.97, 0.98]
    assert ticks(7, 7.0) != []


def test_long_lines_are_thinned_to_means() -> None:
    points = [(k, float(k % 2)) for k in range(1000)]
    few = thin(points, most=100)
    assert len(few) == 100
    assert few[0] == (9, 0.5)
    assert thin([], most=5) == []
    assert thin(points[:3], most=5) == points[:3]


def test_bars_stand_side_by_side_as_high_as_their_values() -> None:
    chart = bar_chart("Sizes", ["1", "2"], [("a", [4, 0]), ("b", [2, 1])], x_label="n")
    heights = [float(h) for h in re.findall(r'height="([\d.]+)"/>', chart)[:4]]
    assert heights == pytest.approx([129.6, 0, 64.8, 32.4], abs=0.1)
    assert "1: 4 a, 2 b; 2: 0 a, 1 b" in parsed(chart).get("aria-label")


def test_labels_below_bars_leave_room_between_them() -> None:
    labels = [f"{40 + k}.6M" for k in range(16)]
    chart = bar_chart("Areas", labels, [("a", [1] * 16)], x_label="nm2")
    places = [float(x) for x in re.findall(r'x="([\d.]+)"[^>]*>\d+\.6M<', chart)]
    assert len(places) == 6  # of 16, each 16.6 wide: every third
    assert min(np.diff(places)) > 6 * len("40.6M")


def test_ticks_of_any_size_are_short() -> None:
    written = [short_number(n) for n in (2048, 12500, 1.07e9, 4.86e7)]
    assert written == ["2048", "12.5k", "1.07G", "48.6M"]


@pytest.mark.parametrize("num_steps", [0, 1, 2, 50, 5000])
def test_trainings_of_any_length_can_be_drawn(num_steps: int) -> None:
    history = [
        HistoryRow(s, 1 / s, 0.1, s, 0.5 if s % 2 else None)
        for s in range(1, num_steps + 1)
    ]
    charts = plot_training(history, metric="V-Rand", chosen=1)
    assert charts == plot_training(history, metric="V-Rand", chosen=1)
    assert len(charts) == 3
    for chart in charts:
        assert "nan" not in chart
        assert len(chart) < 30_000
    assert ("kept: step 1" in words(charts[1])) == (num_steps > 0)


def record(**changes) -> Metrics:
    return Metrics.model_validate(
        metrics_of(
            "vol",
            **{
                "tables": [
                    {"role": role, "sections": [], "rows": []}
                    for role in ("validate", "test")
                ],
                "curves": [
                    {
                        "role": role,
                        "predictor": who,
                        "metric": "v_rand",
                        "thresholds": [0.0, 0.5],
                        "scores": [0.25, score],
                    }
                    for role in ("validate", "test")
                    for who, score in (("unet", 0.75), ("constant", 0.1))
                ],
            }
            | changes,
        )
    )


def test_curves_over_thresholds_are_ours_on_test_sections_marked_where_used() -> None:
    (chart,) = plot_thresholds(record(), 0.4)
    assert parsed(chart).get("aria-label") == (
        "Scores over thresholds, test sections over threshold of the probability: "
        "V-Rand from 0.25 to 0.75"
    )
    assert "used: 0.4" in words(chart)
    assert plot_thresholds(record(curves=[]), 0.4) == []


def test_calibration_leaves_empty_bins_out() -> None:
    one = {
        "role": "test",
        "class": 1,
        "probability": [0.1, None, 0.9],
        "share": [0.2, None, 0.8],
        "num_voxels": [1, 0, 1],
        "expected_error": 0.125,
    }
    chosen_by = one | {"role": "validate", "expected_error": 0.5}
    chart, other = plot_calibration(record(calibration=[chosen_by, one]))
    assert chart.count('class="dot s0"') == 2
    assert "Calibration, test, error 0.125" in words(chart)
    assert "Calibration, validation, error 0.500" in words(other)
    assert plot_calibration(record()) == []
    scaled = one | {"temperature": 1.75, "expected_error": 0.0625}
    (chart,) = plot_calibration(record(calibration=[one, scaled]))
    told = "Calibration, test, error 0.125, scaled 0.062"
    assert told in words(chart)
    assert "as stored" in words(chart)
    assert "temperature 1.75" in words(chart)


def test_sizes_show_only_the_octaves_that_occur() -> None:
    (chart,) = plot_sizes([0, 0, 3] + [0] * 9, [0, 1] + [0] * 10, "test sections")
    assert "voxels, from: 2: 0 true, 1 found; 4: 3 true, 0 found" in parsed(chart).get(
        "aria-label"
    )
    assert plot_sizes([0, 0], [0, 0], "x") == []


def test_an_estimate_stands_at_its_value_with_a_line_from_low_to_high() -> None:
    rows = [Estimate("a", 1.5, (1.0, 2.0)), Estimate("b", 1.0)]
    chart = interval_chart("Ratio", rows, at=1.0)
    (line,) = re.findall(r'class="line s0" d="M([\d.]+) ([\d.]+)H([\d.]+)"', chart)
    first, second = re.findall(r'class="dot s0" cx="([\d.]+)" cy="([\d.]+)"', chart)
    left, height, right = map(float, line)
    assert float(first[0]) == pytest.approx((left + right) / 2, abs=0.1)
    assert float(second[0]) == left, "its value is the other one's lower end"
    assert float(second[1]) > float(first[1]), "the second row is the lower one"
    assert 0 < height < 200
    told = parsed(chart).get("aria-label")
    assert told == "Ratio, to compare with 1: a: 1.5 (1 to 2); b: 1"
    assert "nothing" in words(interval_chart("Ratio", [], at=1.0, note="nothing"))


def test_seams_show_jumps_by_distance_and_ratios_with_their_intervals() -> None:
    seams = Seams.model_validate(scored()["seams"])
    profile, ratios = plot_seams(seams)
    assert "along x" in words(profile)
    assert profile.count('class="dot s1"') == 1, "distance 0, at the phase of the face"
    assert "tile along x, n = 40" in words(ratios)
    assert "1.1 (1.05 to 1.2)" in parsed(ratios).get("aria-label")
    nothing = seams.model_copy(update={"rows": (), "profiles": {}})
    assert "one tile: no faces" in words(plot_seams(nothing)[0])
    assert "no faces to compare" in words(plot_seams(nothing)[1])


def test_charts_make_a_file_that_needs_no_page() -> None:
    charts = plot_seams(Seams.model_validate(scored()["seams"]))
    root = ElementTree.fromstring(standalone_svg(charts))
    inner = [part for part in root if part.tag.endswith("svg")]
    assert [part.get("x") for part in inner] == ["0", "330"]
    style = next(part.text for part in root if part.tag.endswith("style"))
    assert "--ours: #0b5394" in style
    assert "svg.chart .line" in style
