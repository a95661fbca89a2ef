"""The problems of a configuration in words: key, value, and what would work."""

import json
from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr
from typing import Any

from pydantic import BaseModel

from unetpipe.config.fields import (
    COLOUR_PATTERN,
    NAME_PATTERN,
    SHA256_PATTERN,
    name_remedy,
)

# Aliases in YAML can make a value of a few lines that would print as gigabytes.
BRIEF = Repr()
BRIEF.maxlevel, BRIEF.maxstring, BRIEF.maxlong, BRIEF.maxother = 3, 100, 60, 60
REMEDIES = {
    NAME_PATTERN: name_remedy(),
    COLOUR_PATTERN: (
        'write colours as "#rrggbb" in quotes, grey values as 0 to 65535 or 128-255'
    ),
    SHA256_PATTERN: "use 64 hexadecimal digits, as sha256sum prints them",
}
# What pydantic says in the words of Python.
WORDS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "holds keys of its own; write them below it, indented",
    "list_type": "must be a list, like [first, second]",
    "string_type": "must be text, in quotes where it looks like a number",
    "tuple_type": "must be a list, like [first, second]",
}


def explain_problems(model: type[BaseModel], problems: Iterable[Any]) -> list[str]:
    """Turn pydantic's problems into one line a key: key, value, and the remedy."""
    values: dict[str, Any] = {}
    remedies: dict[str, list[str]] = {}
    for problem in problems:
        location = _location(model, problem)
        key = ".".join(location) or "configuration"
        if problem["type"] in ("extra_forbidden", "value_error"):
            values[key] = None
        else:
            values.setdefault(key, _shown(problem["input"]))
        remedies.setdefault(key, []).append(_remedy(model, problem, location))
    return [
        ": ".join(filter(None, [key, values[key], " or ".join(found)]))
        for key, found in remedies.items()
    ]


def _shown(value: Any) -> str:
    """Return a value as YAML has it, and not all of it where it is long."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return BRIEF.repr(value)


def _location(model: type[BaseModel], problem: Any) -> tuple[str, ...]:
    """Return the keys that lead to a problem, as a user wrote them."""
    if problem["type"] == "missing":
        problem = {**problem, "loc": problem["loc"][:-1]}
    if problem["loc"][-1:] == ("[key]",) and problem["type"] != "extra_forbidden":
        return tuple(map(str, problem["loc"][:-1]))
    # With alternatives pydantic appends which of them did not fit.
    branch = isinstance(problem["loc"][-1], str) if problem["loc"] else False
    location = tuple(map(str, problem["loc"]))
    while branch and len(location) > 1 and _is_value(model, location[:-1]):
        location = location[:-1]
    return location


def _remedy(model: type[BaseModel], problem: Any, location: tuple[str, ...]) -> str:
    kind, message = problem["type"], str(problem["msg"])
    if kind == "extra_forbidden":
        below = () if location[1:] else keys_of_sections(model)
        return unknown_key(location[-1], known_keys(model, location[:-1]), below)
    if kind == "missing":
        return "too few values; give one for each of z, y, x"
    if kind == "string_pattern_mismatch":
        pattern = problem["ctx"]["pattern"]
        return REMEDIES.get(pattern, message)
    if kind == "model_type":
        return _section_remedy(config_section_at(model, location), problem["input"])
    if kind in WORDS:
        return WORDS[kind]
    message = message.removeprefix("Value error, ").partition(", unable to")[0]
    return message.replace("Input should be", "must be")


def unknown_key(key: str, known: Iterable[str], below: Iterable[str] = ()) -> str:
    """Return what to do about a key that nobody knows.

    Parameters
    ----------
    key : str
    known : iterable of str
        Keys that may stand there.
    below : iterable of str
        Keys of their sections, like ``training.steps``, that may be meant as well.

    Examples
    --------
    >>> unknown_key("steps", ["seeds", "training"], ["training.steps"])
    'unknown key; did you mean training.steps?'
    """
    if ":" in key:
        name, _, value = key.partition(":")
        return f"YAML wants a space after the colon: {name}: {value}"
    known = list(known)
    meant = {name: [name] for name in known}
    for path in below:
        meant.setdefault(path.rpartition(".")[2], []).append(path)
    close = [" or ".join(meant[name]) for name in get_close_matches(key, meant, n=1)]
    return "unknown key; " + (
        f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    )


def _section_remedy(section: type[BaseModel] | None, given: Any) -> str:
    """Return what to write instead of a value where a section belongs."""
    fields = section.model_fields if section else {}
    examples = {
        key: field.default
        for key, field in fields.items()
        if isinstance(field.default, (bool, int, float, str))
    }
    if isinstance(given, bool) and "enabled" in fields:
        examples = {"enabled": given}
    like = [f", like `{key}: {json.dumps(v)}`" for key, v in examples.items()][:1]
    return "".join(["is a section; write its keys below it, indented", *like])


def _is_value(model: type[BaseModel], location: tuple[str, ...]) -> bool:
    """Tell whether a location is a key of the models that has no keys of its own."""
    known = known_keys(model, location[:-1])
    return location[-1] in known and not known_keys(model, location)


def known_keys(model: type[BaseModel], location: tuple[str, ...]) -> list[str]:
    """Return the keys below a location, sorted; none where a value stands."""
    section = config_section_at(model, location)
    return sorted(section.model_fields) if section else []


def keys_of_sections(model: type[BaseModel]) -> list[str]:
    """Return the keys of all sections, like ``training.steps``, sorted."""
    return [
        f"{section}.{key}"
        for section in sorted(model.model_fields)
        for key in known_keys(model, (section,))
    ]


def config_section_at(
    model: type[BaseModel], location: tuple[str, ...]
) -> type[BaseModel] | None:
    """Return the model of the section at a location; None where a value stands."""
    for part in location:
        field = model.model_fields.get(part)
        below = field.annotation if field else None
        if not (isinstance(below, type) and issubclass(below, BaseModel)):
            return None
        model = below
    return model


def list_problems(source: str, lines: list[str]) -> str:
    """Return one text: where from, how many problems, and a line each."""
    count = f"{len(lines)} problem{'s' if len(lines) != 1 else ''}"
    return "\n".join([f"{source}: {count}", *(f"  {line}" for line in lines)])
