"""Histograms of what was measured of the objects of a volume."""

from collections.abc import Iterator

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from pyarrow import parquet

from unetpipe.records.measurements import Column, Measurements
from unetpipe.report.page.svg import bar_chart, short_number

MAIN = (
    *("area", "intensity_mean", "axis_major_length", "eccentricity"),
    *("solidity", "neighbour_distance"),
)
NUM_BINS = 16


def plot_measured(measured: Measurements | None) -> list[Markup]:
    """Return a histogram of each main property that was measured, over the objects.

    Of intensities the first channel is shown; objects without a value are left out.
    """
    return list(_charts(measured)) if measured else []


def _charts(measured: Measurements) -> Iterator[Markup]:
    first: dict[str, Column] = {}
    for column in measured.columns:
        first.setdefault(column.property, column)
    shown = [first[name] for name in MAIN if name in first]
    table = parquet.read_table(
        measured.table["parquet"].path, columns=[column.name for column in shown]
    )
    for column in shown:
        values = table[column.name].drop_null().to_numpy()
        if len(values):
            counts, edges = np.histogram(values, bins=_edges(values))
            yield bar_chart(
                f"{column.name.replace('_', ' ')}, {len(values)} objects",
                [short_number(float(f"{edge:.3g}")) for edge in edges[:-1]],
                [("objects", counts.tolist())],
                x_label=f"{column.unit or column.name}, from",
            )


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges of bins from the lowest to the highest value."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.array([low, low + (abs(low) or 1.0)])
    return np.linspace(low, high, NUM_BINS + 1)
