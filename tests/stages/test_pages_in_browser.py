"""The pages as people see them: in a browser, light, dark, printed, by keyboard."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from tests.browser import IMAGES, Browser, needs_chromium
from tests.stages.reported import (
    SHAPE,
    arguments,
    cells,
    made_up_run,
    predicted,
    scored,
    trained,
)
from tests.variants import mostly_slow
from unetpipe.report.page.painting import MISSED
from unetpipe.stages.report import report
from unetpipe.stages.report_run import report_run

pytestmark = needs_chromium

PAPER = {False: (255, 255, 255), True: (20, 24, 28)}
OURS = {False: (11, 83, 148), True: (125, 184, 240)}
CONTRAST = """
(() => {
  const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).map(Number);
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  };
  const paper = light(getComputedStyle(document.documentElement).backgroundColor);
  const ratio = text => {
    const ink = light(text);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  };
  const words = "p, td, th, dt, dd, a, summary, figcaption, h1, h2, h3, h4, text.title";
  return [...document.querySelectorAll(words)].map(e => {
    const style = getComputedStyle(e);
    return ratio(e.tagName == "text" ? style.fill : style.color);
  }).reduce((a, b) => Math.min(a, b));
})()
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Return the report of a network, and the comparison with another."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made_up_run(Path())
        report(**arguments(Path()))
        trained(Path(), "other", steps=60)
        mask = (cells(SHAPE) > 0).astype(np.uint8)
        mask[3, :, :31] = 0
        metrics = scored(v_rand=0.7)
        predicted(Path(), "brain", mask, metrics, model="other")
        report_run(
            name="made-up",
            models=[
                {"name": model, "folder": model, "volumes": ["brain"]}
                for model in ("unet", "other")
            ],
            ingests=[Path("brain/ingest.json")],
            compared=[],
            output=Path("report.html"),
        )
    return {"report": folder / "unet/report.html", "comparison": folder / "report.html"}


@pytest.mark.parametrize("dark", mostly_slow([False, True]), ids=["light", "dark"])
@pytest.mark.parametrize("name", mostly_slow(["report", "comparison"]))
def test_a_page_shows_all_its_pictures_and_asks_for_nothing(
    pages, tmp_path: Path, name: str, dark: bool
) -> None:
    with Browser(pages[name], tmp_path / "profile", dark=dark) as browser:
        browser.open_all()
        images = browser.evaluate(IMAGES)
        shot = browser.screenshot(tmp_path / "page.png")
        contrast = browser.evaluate(CONTRAST)
        root = "document.documentElement"
        wide = browser.evaluate(f"{root}.scrollWidth - {root}.clientWidth")
    assert len(images) >= {"report": 15, "comparison": 8}[name]
    assert [alt for alt, width in images if width == 0] == []
    assert browser.requests == []
    assert browser.complaints == []
    assert contrast > 4.5, "words stand out from the paper"
    assert wide == 0, "nothing sticks out to the right"
    pixels = imagecodecs.png_decode(shot)[..., :3]

    def share(colour: tuple[int, int, int]) -> float:
        return float((pixels == colour).all(axis=-1).mean())

    assert share(PAPER[dark]) > 0.3
    assert share(MISSED) > 1e-4, "the map of errors is there"
    if name == "report":
        assert share(OURS[dark]) > 1e-4, "our scores stand out"


def test_the_keyboard_reaches_content_definitions_and_tables(
    pages, tmp_path: Path
) -> None:
    with Browser(pages["report"], tmp_path / "profile") as browser:
        stops = [browser.press_tab() for _ in range(40)]
        browser.evaluate("document.querySelector('a.term').focus({focusVisible: true})")
        tip = browser.evaluate(
            "getComputedStyle(document.querySelector('a.term .tip')).display"
        )
    assert stops[0] == "A #content", "the first stop skips to the content"
    assert stops[1:3] == ["A #data", "A #training"]
    wanted = {"DIV Volumes", "A #def-v_rand", "SUMMARY", "A #definitions"}
    assert wanted <= set(stops)
    assert tip == "block", "a definition shows on focus too"


def test_names_of_files_run_from_left_to_right(pages, tmp_path: Path) -> None:
    """Long ones are cut at their beginning, but 0.png is not shown as png.0."""
    with Browser(pages["report"], tmp_path / "profile") as browser:
        lefts = browser.evaluate(
            "(() => { let text = document.querySelector('.file');"
            " while (text.firstChild) text = text.firstChild;"
            " return [0, 1, 2].map(k => { const one = document.createRange();"
            " one.setStart(text, k); one.setEnd(text, k + 1);"
            " return one.getBoundingClientRect().left; }); })()"
        )
    assert lefts == sorted(set(lefts))


def test_a_narrow_window_needs_no_scrolling_sideways(pages, tmp_path: Path) -> None:
    for name, page in pages.items():
        with Browser(page, tmp_path / name, width=420) as browser:
            wide = browser.evaluate("document.documentElement.scrollWidth")
        assert wide <= 420, name


def test_a_page_prints_on_paper_from_a_dark_screen_too(pages, tmp_path: Path) -> None:
    with Browser(pages["report"], tmp_path / "profile", dark=True) as browser:
        pdf = browser.print_pdf(tmp_path / "page.pdf")
        browser.send("Emulation.setEmulatedMedia", media="print")
        colour = browser.evaluate(
            "getComputedStyle(document.documentElement).backgroundColor"
        )
        hidden = browser.evaluate(
            "[...document.querySelectorAll('details pre')]"
            ".filter(e => !e.checkVisibility({contentVisibilityAuto: true})).length"
        )
    assert pdf.startswith(b"%PDF")
    assert colour == "rgb(255, 255, 255)"
    assert hidden == 0, "what is folded on the screen is printed"
