"""Records have the text that Python's own encoder gives them."""

import json
from collections import Counter
from enum import IntEnum, StrEnum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpipe.runtime.files import (
    _plain,
    add_to_record,
    read_record,
    write_record,
)
from unetpipe.runtime.json_text import indented_json

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.integers() | st.booleans() | st.none(), inner)
    ),
    max_leaves=30,
)


class Kind(StrEnum):
    ONE = "one"


class Number(IntEnum):
    TWO = 2


def expected(value: object) -> str:
    return json.dumps(value, indent=2, allow_nan=False, default=_plain)


@given(VALUES)
def test_the_text_is_that_of_the_library(value: object) -> None:
    assert indented_json(value, _plain) == expected(value)


def test_what_json_does_not_know_is_made_plain() -> None:
    value = {
        "path": Path("a/b"),
        "scalars": (np.float32(0.1), np.float64(0.1), np.int64(3), np.bool_(True)),
        "array": np.arange(6).reshape(2, 3),
        "enums": [Kind.ONE, Number.TWO],
        Kind.ONE: Counter(a=1),
        1.5: {},
    }
    assert indented_json(value, _plain) == expected(value)


@pytest.mark.parametrize("value", [float("nan"), [np.float64("inf")]])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="no JSON number"):
        indented_json(value, _plain)
    with pytest.raises(TypeError, match="tuple is no key"):
        indented_json({(1, 2): value}, _plain)


@pytest.mark.parametrize(
    "record", [{}, {"a": [1], "b": {}}, {"a": {"said": 1}, "said": 2}, {"a": '"said"'}]
)
def test_a_field_is_added_as_if_written_with_the_rest(
    record: dict[str, object], tmp_path: Path
) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    value = {"rule": "x", "settings": {"é": "1"}}
    write_record(one, record)
    add_to_record(one, "said", value)
    write_record(other, record | {"said": value})
    assert one.read_bytes() == other.read_bytes()
    assert read_record(one) == record | {"said": value}
