"""Histograms of measured objects."""

import re
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from unetpipe.measurement.columns import name_columns
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.measurements import Measurements
from unetpipe.report.page.measured import plot_measured


def measured(folder: Path, **values: list[float | None]) -> Measurements:
    """Return the record of a table with these columns."""
    path = folder / "measurements.parquet"
    parquet.write_table(
        pa.table({n: pa.array(v, pa.float64()) for n, v in values.items()}), path
    )
    names = ("orientation", "area", "intensity_mean")
    columns = name_columns(names, ["a", "b"], is_flat=True)
    return Measurements(
        volume="vol",
        identity_sha256="1",
        num_objects=4,
        num_too_large=0,
        largest_box_vox=1,
        neighbour_reach_nm=1,
        columns=tuple(c for c in columns if c.name in values),
        table={"parquet": {"path": path, "sha256": "1"}},
        circumstances=Circumstances.here(),
    )


def counts(chart: str) -> int:
    """Return how many objects the bars of a chart tell of."""
    return sum(int(n) for n in re.findall(r": (\d+) objects", chart))


def test_the_main_ones_have_a_histogram_over_all_objects_with_a_value(tmp_path):
    charts = plot_measured(
        measured(
            tmp_path,
            orientation_rad=[1.0, 2.0, 3.0, 4.0],
            area_nm2=[1.0, 2.0, 2.0, 9.0],
            intensity_mean_a=[5.0, None, 7.0, 7.0],
            intensity_mean_b=[5.0, 6.0, 7.0, 7.0],
        )
    )
    assert len(charts) == 2  # of intensities the first channel; no orientation
    assert "area nm2, 4 objects" in charts[0]
    assert "intensity mean a, 3 objects" in charts[1]
    assert [counts(chart) for chart in charts] == [4, 3]


def test_objects_that_are_all_alike_have_one_bar(tmp_path):
    (chart,) = plot_measured(measured(tmp_path, area_nm2=[3.0, 3.0]))
    assert counts(chart) == 2
    assert len(re.findall("<rect class", chart)) >= 1


def test_large_numbers_are_written_as_people_read_them(tmp_path):
    (chart,) = plot_measured(measured(tmp_path, area_nm2=[2048.0, 43824.0]))
    assert "43.8k" not in chart  # the last edge is no bar's beginning
    assert all(text in chart for text in (">2050<", ">17.7k<", ">33.4k<"))
    assert "e+0" not in chart


def test_nothing_is_drawn_of_nothing(tmp_path):
    assert plot_measured(None) == []
    assert plot_measured(measured(tmp_path, area_nm2=[None, None])) == []
