"""Whole records for tests that care for a few of their values only."""

from pathlib import Path
from typing import Any

from unetpipe.runtime.files import read_record

FOLDER = Path(__file__).with_name("version_0_1")
# Below these keys what is not given is taken from the demo, too.
DEEP = {"image", "labels", "outputs", "probability", "identity", "settings"}


def whole(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return a record of the demo with other values."""
    return _over(read_record(FOLDER / f"{name}.json"), values)


def _over(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    deeper = {
        key: _over(old[key], new[key])
        for key in DEEP & old.keys() & new.keys()
        if isinstance(old[key], dict) and isinstance(new[key], dict)
    }
    return old | new | deeper
