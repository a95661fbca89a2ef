"""Lines and columns of the sheet, before any cell is understood."""

import csv
from difflib import get_close_matches

from unetpipe.errors import ConfigError

COLUMNS = (
    "volume",
    "image",
    "labels",
    "sections",
    "role",
    "fold",
    "axes",
    "time",
    "channels",
    "voxel_size_nm",
    "label_kind",
    "unlabelled",
    "optional",
)
# What rows of one volume may differ in.
OF_ROW = ("sections", "role", "fold")
REQUIRED = ("volume", "image", "role")


def split_cells(line: str) -> list[str]:
    """Split one line; a stray quote cannot swallow the lines that follow."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter="\t"))]
    except csv.Error as error:
        raise ConfigError(
            f"a line begins {line[:40]!r} and cannot be read ({error}); a cell holds "
            f"at most {csv.field_size_limit()} characters"
        ) from None


def check_tabs(number: int, line: str) -> list[str]:
    """Refuse a header whose columns something else than tabs keeps apart."""
    if "\t" in line:
        return []
    for mark, spelled in ((None, "spaces"), (",", "commas"), (";", "semicolons")):
        names = line.strip().split(mark)
        if len(names) > 1 and names[0].strip('" ') in COLUMNS:
            return [
                f"line {number}: {spelled} separate the columns; use tabs, in every "
                "line (spreadsheets save them as `text, tab-separated`, .tsv)"
            ]
    return []


def check_header(names: list[str]) -> list[str]:
    """Return what is wrong with the names of the columns."""
    problems = [
        f"column {name} appears twice; keep one"
        for name in COLUMNS
        if names.count(name) > 1
    ]
    for name in names:
        if name not in COLUMNS:
            close = get_close_matches(str(name), COLUMNS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"use {', '.join(COLUMNS)}"
            problems.append(f"unknown column {name!r}; {hint}")
    problems += [f"column {name} is missing" for name in REQUIRED if name not in names]
    return problems
