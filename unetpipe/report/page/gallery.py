"""Which sections are pictured, and how large, so that the page stays small.

Predictions get full pictures until the bytes that are left are wanted for the
thumbnails of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetpipe.metrics.names import plain_metric_name
from unetpipe.records.metrics import Metrics
from unetpipe.records.volume import IngestedVolume
from unetpipe.report.page.mistakes import count_sizes, find_mistakes
from unetpipe.report.page.run import Result
from unetpipe.report.page.section_viewer import Picture, SectionViewer
from unetpipe.report.page.tables import rank_shown_sections, score_of_section
from unetpipe.report.page.text import format_score

Shown = dict[str, Any]

PICTURE_BYTES = 11_000_000  # of all pictures of a page
THUMBNAIL_BYTES = 50_000  # kept back for each prediction that is still to come
THUMBNAIL_SIDE = 200
MOST_MISTAKES = 2  # of each kind and section that are zoomed into

Gallery = dict[str, Any]
NOTHING: Gallery = {
    "panels": [],
    "found": [],
    "sizes": None,
    "cropped": None,
    "is_thumbnail": False,
}


@dataclass(slots=True)
class Budget:
    """Bytes of pictures that a page may still hold."""

    left: int = PICTURE_BYTES
    is_tight: bool = False  # since a full set did not fit: no other one is tried

    def show(
        self,
        volume: IngestedVolume,
        result: Result,
        *,
        num_classes: int,
        num_to_come: int,
    ) -> Gallery:
        """Return the pictures of one prediction: full, thumbnails, or none.

        Parameters
        ----------
        volume : IngestedVolume
        result : Result
        num_classes : int
            Of the network.
        num_to_come : int
            Predictions after this one, for which thumbnails are kept back.
        """
        spare = self.left - THUMBNAIL_BYTES * num_to_come
        if not self.is_tight:
            viewer = SectionViewer(volume, result, num_classes=num_classes)
            gallery = show_sections(viewer, result.metrics)
            if gallery_bytes(gallery) <= spare:
                self.left -= gallery_bytes(gallery)
                return gallery
            self.is_tight = True
        if self.left < THUMBNAIL_BYTES:
            return NOTHING
        viewer = SectionViewer(
            volume, result, num_classes=num_classes, side=THUMBNAIL_SIDE
        )
        gallery = show_worst(viewer, result.metrics)
        self.left -= gallery_bytes(gallery)
        return gallery


def show_sections(viewer: SectionViewer, metrics: Metrics | None) -> Gallery:
    """Return best, median and worst section, zooms on mistakes, and objects."""
    panels = []
    ranked = rank_shown_sections(metrics) if metrics else []
    sizes = np.zeros((2, 64), np.int64)
    for title, z in best_median_worst(ranked):
        mistakes: list[Shown] = []
        if viewer.num_classes == 2:
            truth, result, unknown = viewer.objects_of(z)
            sizes += [count_sizes(ids, unknown) for ids in (truth, result)]
            mistakes = list(_zoom(viewer, z))
        panels.append(
            {
                "title": f"{title}: section {z}",
                "score": _score(metrics, z),
                "pictures": viewer.compared(z),
                "mistakes": mistakes,
            }
        )
    return {
        "panels": panels,
        "found": viewer.found(viewer.middle),
        "sizes": sizes.tolist() if sizes.any() else None,
        "cropped": viewer.cropped,
        "is_thumbnail": False,
    }


def show_worst(viewer: SectionViewer, metrics: Metrics | None) -> Gallery:
    """Return one row of thumbnails: the worst section, or the middle one."""
    ranked = rank_shown_sections(metrics) if metrics else []
    if not ranked:
        return NOTHING | {
            "found": viewer.found(viewer.middle),
            "cropped": viewer.cropped,
            "is_thumbnail": True,
        }
    panel = {
        "title": f"Worst: section {ranked[-1]}",
        "score": _score(metrics, ranked[-1]),
        "pictures": viewer.compared(ranked[-1]),
        "mistakes": [],
    }
    return NOTHING | {
        "panels": [panel],
        "cropped": viewer.cropped,
        "is_thumbnail": True,
    }


def best_median_worst(ranked: list[int]) -> list[tuple[str, int]]:
    """Return up to three different sections, with what they are.

    Examples
    --------
    >>> best_median_worst([5, 2, 9, 0])
    [('Best', 5), ('Median', 9), ('Worst', 0)]
    >>> best_median_worst([4]), best_median_worst([4, 1])
    ([('Only', 4)], [('Best', 4), ('Worst', 1)])
    """
    if len(ranked) < 3:
        titles = ("Only",) if len(ranked) == 1 else ("Best", "Worst")
        return list(zip(titles, ranked, strict=False))
    middle = ranked[len(ranked) // 2]
    return [("Best", ranked[0]), ("Median", middle), ("Worst", ranked[-1])]


def gallery_bytes(gallery: Gallery) -> int:
    """Return how many bytes the pictures of a gallery take on the page."""
    pictures: list[Picture] = list(gallery["found"])
    for panel in gallery["panels"]:
        pictures += panel["pictures"]
        for mistake in panel["mistakes"]:
            pictures += mistake["pictures"]
    return sum(len(picture["address"]) for picture in pictures)


def _zoom(viewer: SectionViewer, z: int) -> Iterator[Shown]:
    """Yield the gravest splits and merges of a section, with pictures."""
    truth, result, unknown = viewer.objects_of(z)
    for mistake in find_mistakes(truth, result, unknown, MOST_MISTAKES):
        many = f"{mistake.num_fragments} objects"
        what = (
            f"Split: a true object found as {many}"
            if mistake.kind == "split"
            else f"Merge: {many} found as one"
        )
        yield {
            "title": f"{what}, {mistake.num_voxels:,} voxels on the wrong side",
            "pictures": viewer.zoomed(z, mistake),
        }


def _score(metrics: Metrics | None, z: int) -> str:
    found = score_of_section(metrics, z) if metrics else None
    return f"{plain_metric_name(found[0])} {format_score(found[1])}" if found else ""
