"""The picture beside the first paragraph: what was found where it went middling."""

from unetpipe.report.page.gallery import best_median_worst
from unetpipe.report.page.run import Result, Run
from unetpipe.report.page.section_viewer import Picture, SectionViewer
from unetpipe.report.page.tables import rank_shown_sections

SIDE = 480
WHICH = {
    "Median": "the median of the scored sections",
    "Worst": "the worse of two scored sections",
    "Only": "the only scored section",
    "": "the middle one",
}


def lead_picture(run: Run) -> Picture | None:
    """Return the objects over a section of the first result; None without results.

    Test sections come first. It is the median one by the leading score, of two the
    worse; where nothing was scored the middle of the volume.
    """
    if not run.results:
        return None
    result = run.results[0]
    viewer = SectionViewer(run.volumes[result.volume], result, side=SIDE)
    title, z = _choose(result, viewer.middle)
    where = f"section {z} of {result.volume}" if viewer.num_sections > 1 else ""
    cropped = f"; {viewer.cropped}" if viewer.cropped else ""
    which = f"{where}, {WHICH[title]}" if where else result.volume
    return viewer.coloured(z, f"Objects found in {which}{cropped}")


def _choose(result: Result, middle: int) -> tuple[str, int]:
    ranked = rank_shown_sections(result.metrics) if result.metrics else []
    found = dict(best_median_worst(ranked))
    return next(
        ((title, found[title]) for title in WHICH if title in found), ("", middle)
    )
