"""Draw the picture of the README from the results of the demo.

``make demo``, then ``python -m tests.figures results/demo``.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray
from PIL import Image

from unetpipe.report.page.painting import grey_picture, object_picture
from unetpipe.storage.volumes import open_volume

PICTURE = Path(__file__).parent / "overview.png"
SHOWN = 160  # voxels along an edge of the detail
NUM_COLOURS = 160  # enough for the eye, and half the bytes
INK, PALE = "#24292f", "#6a737d"
LINES = [
    ("Your image", "with a few sections annotated"),
    ("Training weights", "borders between cells count most"),
    ("Probability", "tile by tile, as if in one piece"),
    ("Objects", "masks, ids and a table"),
]


def main(run: Path) -> None:
    """Write ``overview.png`` beside this file."""
    panels = read_panels(run)
    figure = Figure(figsize=(9.6, 2.8), dpi=125, facecolor="white")
    axes = figure.subplots(1, 4)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.99, bottom=0.2, wspace=0.12)
    for one, panel, (title, line) in zip(axes, panels, LINES, strict=True):
        show(one, panel, title, line)
    for left, right in pairwise(axes):
        figure.add_artist(arrow(left, right))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    few = Image.fromarray(pixels).quantize(NUM_COLOURS, dither=Image.Dither.NONE)
    few.save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


def read_panels(run: Path) -> list[NDArray[np.uint8]]:
    """Return four pictures of one section that the network was tested on."""
    (metrics,) = run.glob("unet/*/metrics.json")
    volume = metrics.parent.name
    z = read(metrics)["role_sections"]["test"][0]
    ingest = read(run / "volumes" / volume / "ingest.json")
    weights = read(run / "volumes" / volume / "weight_map.json")
    plan = read(metrics.parent / "plan.json")
    segmentation = read(metrics.parent / "segmentation.json")

    def section(store: str) -> NDArray[Any]:
        stored = open_volume(run.parents[1] / store)  # paths are from where it ran
        window = [
            slice(max(0, (n - SHOWN) // 2), (n + SHOWN) // 2) for n in stored.shape[-2:]
        ]
        first = [slice(0, 1)] * (stored.ndim - 3)  # channel
        return np.squeeze(stored[(*first, slice(z, z + 1), *window)])

    grey = grey_picture(section(ingest["image"]["store"]))
    return [
        grey,
        heat(section(weights["border_term"]["store"])),
        section(plan["outputs"]["probability"]["store"]),
        object_picture(grey, section(segmentation["objects"])),
    ]


def read(path: Path) -> dict[str, Any]:
    """Return a record."""
    return dict(json.loads(path.read_text()))


def heat(weights: NDArray[Any]) -> NDArray[np.uint8]:
    """Return weights, shape (y, x), in colours from dark blue to yellow."""
    stops = np.array([[13, 20, 48], [126, 36, 98], [230, 92, 44], [252, 222, 106]])
    places = np.clip(weights / weights.max(), 0, 1) * (len(stops) - 1)
    low = np.minimum(places.astype(int), len(stops) - 2)
    share = (places - low)[..., None]
    mixed = stops[low] * (1 - share) + stops[low + 1] * share
    return np.asarray(np.rint(mixed), np.uint8)


def show(axes: Axes, panel: NDArray[np.uint8], title: str, line: str) -> None:
    """Put one picture with its two lines of text below it."""
    axes.imshow(panel, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    middle = {"ha": "center", "va": "top", "transform": axes.transAxes}
    axes.text(0.5, -0.03, title, fontsize=12, weight="bold", color=INK, **middle)
    axes.text(0.5, -0.135, line, fontsize=8.5, color=PALE, **middle)


def arrow(left: Axes, right: Axes) -> FancyArrowPatch:
    """Return an arrow in the gap between two pictures."""
    start, end = left.get_position(), right.get_position()
    height = (start.y0 + start.y1) / 2
    return FancyArrowPatch(
        (start.x1 + 0.002, height),
        (end.x0 - 0.002, height),
        arrowstyle="-|>",
        mutation_scale=18,
        linewidth=2.2,
        color=INK,
    )


if __name__ == "__main__":
    main(Path(*sys.argv[1:2]).absolute())
