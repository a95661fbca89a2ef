"""JSON as records are written, indented by two: the text of `json.dumps`, sooner.

Python's own encoder leaves C as soon as it indents, and yields every comma by itself.
"""

from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted
from math import isfinite
from typing import Any

STEP = "  "


def indented_json(
    value: Any, default: Callable[[Any], Any], *, newline: str = "\n"
) -> str:
    """Return what ``json.dumps(value, indent=2, allow_nan=False)`` returns.

    Parameters
    ----------
    value : object
    default : callable
        Returns a JSON value for one that JSON does not know.
    newline : str
        Before the end of the value: a line feed, and how far it is indented.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    if (leaf := _LEAVES.get(type(value))) is not None:
        return leaf(value)
    deeper = newline + STEP
    if isinstance(value, dict):
        items = [
            f"{_key(key)}: {indented_json(item, default, newline=deeper)}"
            for key, item in value.items()
        ]
        return _between("{", items, "}", newline) if value else "{}"
    if isinstance(value, (list, tuple)):
        texts = [indented_json(item, default, newline=deeper) for item in value]
        return _between("[", texts, "]", newline) if value else "[]"
    if (text := _scalar(value)) is not None:
        return text
    return indented_json(default(value), default, newline=newline)


def _between(opening: str, texts: list[str], closing: str, newline: str) -> str:
    deeper = newline + STEP
    return f"{opening}{deeper}{f',{deeper}'.join(texts)}{newline}{closing}"


def _scalar(value: Any) -> str | None:
    """Return the text of a value of a derived type; None where JSON knows none."""
    for kind in (str, int, float):
        if isinstance(value, kind):
            return _LEAVES[kind](value)
    return None


def _finite(value: float) -> str:
    if not isfinite(value):
        raise ValueError(f"{value!r} is no JSON number")
    return float.__repr__(value)


_LEAVES: dict[type, Callable[[Any], str]] = {
    str: quoted,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "null",
    int: int.__repr__,
    float: _finite,
}


def _key(key: Any) -> str:
    if isinstance(key, str):
        return quoted(key)
    leaf = _LEAVES.get(type(key))
    text = leaf(key) if leaf else _scalar(key)
    if text is None:
        raise TypeError(f"{type(key).__name__} is no key of a JSON object")
    return quoted(text)
