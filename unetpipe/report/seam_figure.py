"""A picture of the seam report: jumps near tile faces, and how they compare."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, BLUE, RED, PALE = "#3c434b", "#0b5394", "#d55e00", "#b9c3cf"
COLOURS = {"z": PALE, "y": BLUE, "x": RED}


def plot_seams(seams: dict[str, Any]) -> bytes:
    """Return a PNG of what ``metrics.json`` holds under ``seams``.

    Left the mean jump of probability by distance to the nearest tile face, right the
    ratio of the jump across each kind of face to that inside, with its interval.
    """
    figure = Figure(figsize=(8.6, 2.9), layout="constrained", dpi=120)
    profile, ratios = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _plot_profile(profile, seams)
    _plot_ratios(ratios, [row for row in seams["rows"] if row["ratio"] is not None])
    for axes in (profile, ratios):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _plot_profile(axes: Axes, seams: dict[str, Any]) -> None:
    axes.set_title("Mean jump of probability", fontsize=9, color=INK)
    axes.set_xlabel("voxels from the nearest tile face", fontsize=8, color=INK)
    shown = {name: p for name, p in seams["profiles"].items() if p["distance"]}
    if not shown:
        _say(axes, "one tile: no faces")
        return
    axes.axvline(0, color=PALE, linewidth=1)
    top = 0.0
    for name, profile in shown.items():
        grid = seams["pooling_grid"]["zyx".index(name)]
        pairs = list(zip(profile["distance"], profile["jump"], strict=True))
        same = [pair for pair in pairs if pair[0] % grid == 0]
        colour = COLOURS[name]
        axes.plot(*zip(*pairs, strict=True), color=colour, linewidth=0.7, alpha=0.5)
        label = f"along {name}; dots: phase of the faces"
        axes.plot(
            *zip(*same, strict=True), "o", color=colour, markersize=3.5, label=label
        )
        top = max(top, *profile["jump"])
    axes.set_ylim(0, 1.25 * top if top > 0 else 1)
    axes.legend(fontsize=7, frameon=False, loc="upper right", labelcolor=INK)


def _plot_ratios(axes: Axes, rows: list[dict[str, Any]]) -> None:
    axes.set_title("Across the face / inside", fontsize=9, color=INK)
    if not rows:
        _say(axes, "no faces to compare")
        return
    axes.axvline(1, color=PALE, linewidth=1)
    for place, row in enumerate(rows):
        if row["interval"]:
            axes.plot(row["interval"], [place] * 2, color=INK, linewidth=1.4)
        axes.plot(
            [row["ratio"]], [place], "o", color=COLOURS[row["axis"]], markersize=5
        )
    names = [f"{row['face']} along {row['axis']}, n = {row['n']}" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", transform=axes.transAxes, color=INK)
    axes.set(xticks=[], yticks=[])
