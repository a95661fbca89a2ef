"""What was asked of a result, as its record tells it."""

import pytest

from unetpipe.records.asked import Asked, differing, note_asked
from unetpipe.runtime.files import read_record, write_record

ROWS = [{"ingest": "results/a/volumes/v/ingest.json", "sections": (0, 1)}]


def asked(results: str = "results/a", rule: str = "train_unet", **settings) -> Asked:
    return Asked.of(rule, {"rows": ROWS, "steps": 4} | settings, results)


def test_a_record_tells_what_was_asked_and_keeps_what_it_said(tmp_path) -> None:
    record = tmp_path / "train.json"
    write_record(record, {"steps": 4, "mean": 0.1})
    assert differing(record, asked()) is None, "an earlier version does not tell"
    note_asked(record, asked().to_json())
    assert differing(record, asked()) == ()
    assert differing(record, asked(steps=8, code="b")) == ("steps", "code")
    assert differing(record, asked(rule="adopt_network")) == ("rule",)
    values = read_record(record)
    assert list(values) == ["steps", "mean", "asked"]
    assert values["mean"] == 0.1


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_record_that_cannot_be_read_answers_nothing(tmp_path, text) -> None:
    record = tmp_path / "train.json"
    record.write_text(text)
    assert differing(record, asked()) == ("record",)


def test_a_parameter_more_or_less_is_another_question(tmp_path) -> None:
    assert asked().differing(asked(average=8)) == ("average",)
    assert asked(average=8).differing(asked()) == ("average",)


def test_paths_count_from_the_folder_of_the_run() -> None:
    elsewhere = [{"ingest": "results/b/volumes/v/ingest.json", "sections": [0, 1]}]
    assert asked().differing(asked("results/b", rows=elsewhere)) == ()
    other = [{"ingest": "results/b/volumes/w/ingest.json", "sections": [0, 1]}]
    assert asked().differing(asked("results/b", rows=other)) == ("rows",)


def test_originals_that_are_gone_are_no_others() -> None:
    """Moved to tape after they were stored: nothing runs; touched: they are read."""
    before = asked(originals={"a.tif": [10, 1]})
    assert before.differing(asked(originals={})) == ()
    assert before.differing(asked(originals={"a.tif": [10, 2]})) == ("originals",)
    assert asked(originals={}).settings == asked().settings
