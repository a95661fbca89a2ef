"""The sheets that come with the project keep what they say in their first lines."""

from itertools import product
from pathlib import Path

import pytest

from unetpipe.config.sheet import Row, load_sheet

CONFIG = Path(__file__).resolve().parents[2] / "config"


def sections(rows: tuple[Row, ...], image: str, role: str) -> set[int]:
    found = [row.sections for row in rows if (row.image, row.role) == (image, role)]
    return {z for numbers in found if numbers for z in numbers}


@pytest.mark.parametrize("fold", ["1", "2"])
def test_silver_frames_keep_away_from_the_frames_that_validate(fold: str) -> None:
    sheet = load_sheet(CONFIG / "dic-hela-silver.tsv")
    rows = sheet.of_fold(fold, "train", "validate", "test")
    (tested,) = {row.image for row in rows if row.role == "test"}
    (learnt,) = {row.image for row in rows if row.role == "train"}
    assert tested != learnt
    train, validate = (sections(rows, learnt, role) for role in ("train", "validate"))
    assert len(train) > 60
    assert min(abs(a - b) for a, b in product(train, validate)) > 3
    scored = [row.labels for row in rows if row.role != "train"]
    assert all("_GT/SEG" in labels for labels in scored)


def test_each_section_of_isbi_2012_is_tested_once() -> None:
    sheet = load_sheet(CONFIG / "isbi2012.tsv")
    tested = [z for row in sheet.rows if row.role == "test" for z in row.sections or ()]
    assert sorted(tested) == list(range(30))
