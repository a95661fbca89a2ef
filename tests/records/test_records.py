"""Records are read as they were written, and refused in one line otherwise."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from unetpipe.errors import DataError
from unetpipe.records import Record, Value
from unetpipe.records.circumstances import Circumstances
from unetpipe.runtime.files import read_record, write_record


class Part(Value):
    name: str
    weight: float | None = None


class Example(Record):
    WHAT = "an example"

    volume: str
    shape: tuple[int, int, int]
    parts: tuple[Part, ...] = ()
    note: str | None = None


class Second(Record):
    WHAT = "a second example"
    FORMAT = 2

    length: int
    READABLE: ClassVar[int] = 1

    @classmethod
    def upgrade(cls, values: dict[str, Any], found: int) -> dict[str, Any] | None:
        return {"length": values["size"]} if found == cls.READABLE else None


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Example(volume="a", shape=(1, 2, 3), parts=(Part(name="b", weight=0.5),))
    written.write(tmp_path / "a.json")
    assert Example.read(tmp_path / "a.json") == written
    assert read_record(tmp_path / "a.json") == {
        "volume": "a",
        "shape": [1, 2, 3],
        "parts": [{"name": "b", "weight": 0.5}],
    }


def test_what_nobody_set_is_not_written(tmp_path: Path) -> None:
    old = {"volume": "a", "shape": [1, 2, 3], "parts": [{"name": "b"}]}
    write_record(tmp_path / "old.json", old)
    Example.read(tmp_path / "old.json").write(tmp_path / "new.json")
    assert (tmp_path / "new.json").read_bytes() == (tmp_path / "old.json").read_bytes()


def test_none_that_somebody_set_is_written() -> None:
    assert Example(volume="a", shape=(1, 2, 3), note=None).to_json() == {
        "volume": "a",
        "shape": (1, 2, 3),
        "note": None,
    }


def test_fields_of_later_versions_are_passed_over(tmp_path: Path) -> None:
    values = {"volume": "a", "shape": [1, 2, 3], "colour": "red"}
    write_record(tmp_path / "a.json", values)
    assert Example.read(tmp_path / "a.json") == Example(volume="a", shape=(1, 2, 3))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"volume": "a"}, "shape is missing"),
        ({}, "volume is missing, and 1 more"),
        (
            {"volume": "a", "shape": [1, 2, "c"]},
            "shape.2: Input should be a valid integer, unable to parse string as an "
            "integer",
        ),
        ({"volume": "a", "shape": [1, 2, 3], "parts": [{}]}, "parts.0.name is missing"),
    ],
)
def test_a_record_of_another_kind_is_refused_in_one_line(
    tmp_path: Path, values: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "a.json"
    write_record(path, values)
    with pytest.raises(DataError) as raised:
        Example.read(path)
    assert str(raised.value) == (
        f"{path} is not an example as this version of unetpipe writes it ({problem}); "
        "delete it and run again"
    )


def test_a_later_format_is_refused_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_record(path, {"format": 2, "volume": "a", "shape": [1, 2, 3]})
    with pytest.raises(DataError) as raised:
        Example.read(path)
    assert str(raised.value) == (
        f"{path} has format 2, this version of unetpipe reads an example in format 1; "
        "use the version that wrote it, or delete it and run again"
    )


def test_an_earlier_format_is_read_where_the_record_knows_how(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_record(path, {"size": 7})
    assert Second.read(path) == Second(length=7)
    Second(length=7).write(path)
    assert read_record(path) == {"format": 2, "length": 7}
    write_record(path, {"format": 0, "size": 7})
    with pytest.raises(DataError, match=r"format 0, .* in format 2; delete it and run"):
        Second.read(path)


def test_a_missing_file_is_an_error_or_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; run the rule that writes it"):
        Example.read(tmp_path / "a.json")
    assert Example.read_if_there(tmp_path / "a.json") is None


def test_records_cannot_be_changed() -> None:
    record = Example(volume="a", shape=(1, 2, 3))
    with pytest.raises(ValidationError, match="frozen"):
        record.volume = "b"  # type: ignore[misc]


def test_circumstances_hold_only_what_is_known() -> None:
    plain = Circumstances.here(seconds=0.0).to_json()
    assert list(plain) == [
        *("host", "platform", "python", "libraries", "finished", "seconds")
    ]
