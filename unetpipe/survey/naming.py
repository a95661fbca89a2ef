"""Names of volumes: from files and folders, in the letters of a sheet, unique."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from unicodedata import normalize

from unetpipe.config.sheet import TAKEN
from unetpipe.survey.names import says_nothing_else, split_suffix

LONGEST_NAME = 48
ID_PATTERN = re.compile(r"^[0-9a-f]{16,}$")
SHORTEST_ID = 8


def plain_name(text: str) -> str:
    """Return a text in letters, digits, ``.``, ``_``, ``-``; nothing if none is left.

    Examples
    --------
    >>> plain_name("Zürich, 2nd day (raw)")
    'Zurich-2nd-day-raw'
    >>> plain_name("state")
    'volume-state'
    """
    plain = normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", plain).strip("-._")[:LONGEST_NAME]
    return f"volume-{plain}" if re.fullmatch(TAKEN, plain) else plain


def choose_names(paths: Sequence[str], fallback: str) -> list[str]:
    """Return a name for each volume: its file's or folder's, made unique.

    Letters that a sheet does not allow become ``-``; ids of many digits are cut where
    they still differ.

    Parameters
    ----------
    paths : sequence of str
        Of each volume's image; of a series its folder.
    fallback : str
        Of a volume that has no name of its own.

    Examples
    --------
    >>> choose_names(["a/raw/1.png", "b/raw/1.png", "b/raw/ü 2.png"], "mine")
    ['a-1', 'b-1', 'u-2']
    """
    lengths = [1] * len(paths)
    parts = [_naming_parts(path) or [fallback] for path in paths]
    while True:
        names = [
            plain_name("-".join(part[-length:])) or fallback
            for part, length in zip(parts, lengths, strict=True)
        ]
        count = Counter(name.casefold() for name in names)
        longer = [
            min(length + 1, len(part)) if count[name.casefold()] > 1 else length
            for part, length, name in zip(parts, lengths, names, strict=True)
        ]
        if longer == lengths:
            break
        lengths = longer
    return _number_twins([plain_name(name) for name in _shorten_ids(names)])


def _naming_parts(path: str) -> list[str]:
    """Return folders and name, without what only says image or labels."""
    parts = list(PurePosixPath(path).parts)
    if parts:
        parts[-1] = split_suffix(parts[-1])[0]
    return [part for part in parts if not says_nothing_else(part)]


def _shorten_ids(names: list[str]) -> list[str]:
    ids = {name for name in names if ID_PATTERN.match(name)}
    length = SHORTEST_ID
    while len({name[:length] for name in ids}) < len(ids):
        length += 1
    return [name[:length] if name in ids else name for name in names]


def _number_twins(names: list[str]) -> list[str]:
    taken: set[str] = set()
    unique = []
    for name in names:
        chosen, number = name[:LONGEST_NAME].rstrip("-._"), 2
        stem = chosen
        while chosen.casefold() in taken:
            chosen, number = f"{stem}-{number}", number + 1
        taken.add(chosen.casefold())
        unique.append(chosen)
    return unique
