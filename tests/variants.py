"""Variants of a test: some in the loop that people wait for, more in `make slow`."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(values: Iterable[Any], *, quick: int | Iterable[Any] = 1) -> list[Any]:
    """Return parameters of which some are quick: the first ones, or those named."""
    given = list(values)
    chosen = given[:quick] if isinstance(quick, int) else list(quick)
    assert all(value in given for value in chosen)
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=[] if value in chosen else pytest.mark.slow,
        )
        for value in given
    ]
