"""How a path is written into a cell of the sheet, so that exactly it is read again."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from unetpipe.images.endings import split_suffix
from unetpipe.images.files import find_image_files, section_files

# Cells are trimmed, split at |, at ; and at tabs, and lines at whatever ends one.
UNWRITABLE = re.compile(r"[|;\t\x00-\x1f\x7f-\x9f\u2028\u2029\"]|^\s|\s$|^~|^#")
PATTERN = re.compile(r"([*?\[])")


def write_cell(path: str) -> str:
    """Return a cell that names one file; what a cell cannot hold becomes ``?``.

    Examples
    --------
    >>> write_cell("raw/a.tif"), write_cell("raw/a|b [2].tif")
    ('raw/a.tif', 'raw/a?b [[]2].tif')
    """
    if not UNWRITABLE.search(path):
        return path
    return UNWRITABLE.sub("?", _escape(path))


def sheet_cell_of_series(paths: Sequence[str], root: Path) -> str:
    """Return a cell that names exactly these files, or nothing if there is none.

    A pattern like ``raw/*.png``, or ``raw/t*.tif`` where other files lie there too.
    """
    if len(paths) == 1:
        return write_cell(paths[0])
    folder = PurePosixPath(paths[0]).parent
    stems, suffixes = zip(
        *(split_suffix(PurePosixPath(p).name) for p in paths), strict=True
    )
    if len(set(suffixes)) > 1 or len({PurePosixPath(p).parent for p in paths}) > 1:
        return ""
    start = _common_start(stems)
    inside = "" if str(folder) == "." else _escape(f"{folder}/")
    wanted = {root / path for path in paths}
    for beginning in ("", start):
        name = _escape(beginning)
        cell = UNWRITABLE.sub("?", f"{inside}{name}*{suffixes[0]}")
        found = find_image_files(cell, root)
        if set(found[: len(paths)]) == wanted and not _strangers(found, wanted):
            return cell
    return ""


def sheet_cell_of_folder(path: str, root: Path) -> str:
    """Return a cell that names the folder of one file, or nothing if it holds others.

    So the file counts as one of a series, and its number as that of its section.
    """
    folder = PurePosixPath(path).parent
    is_alone = str(folder) != "." and section_files(root / folder) == [root / path]
    return write_cell(str(folder)) if is_alone else ""


def _strangers(found: Sequence[Path], wanted: set[Path]) -> list[Path]:
    """Return other files of the folder; those of the challenge have companions."""
    place = next(iter(wanted)).parent
    return [path for path in found if path not in wanted and path.parent == place]


def _escape(text: str) -> str:
    return PATTERN.sub(r"[\1]", text)


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    same = next(
        (k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )
    return re.sub(r"\d+$", "", first[:same])
