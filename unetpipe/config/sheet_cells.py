"""Cells of the sheet: text to the values of a row, and what is wrong with it."""

import csv
import re
from collections.abc import Callable
from difflib import get_close_matches
from math import isfinite
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from unetpipe.config.fields import Section, name_problem
from unetpipe.config.layout import TAKEN_BY_NETWORK
from unetpipe.errors import ConfigError
from unetpipe.tiling.boxes import Zyx

ROLES = ("train", "validate", "test", "predict")
LABEL_KINDS = ("instances", "binary", "classes", "masks")
BETWEEN_BOXES = ";"
CONDITION = re.compile(r"^condition_\w+$")
AXES_PATTERN = r"^(?=.*y)(?=.*x)(?!.*(.).*\1)[tczyx]{2,5}$"


def parse_sections(text: str) -> tuple[int, ...] | None:
    """Return section numbers: ``all`` is None, ``0-3,5`` is (0, 1, 2, 3, 5).

    Raises
    ------
    ConfigError
        If the text is neither.

    Examples
    --------
    >>> parse_sections("0-2,7")
    (0, 1, 2, 7)
    """
    if text in ("", "all"):
        return None
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part.strip())
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ConfigError(f"sections is {text!r}; use all, or ranges like 0-3,5-8")
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(numbers))


def _of_text(read: Callable[[str], Any]) -> BeforeValidator:
    """Return a validator that reads a cell; values that are read already pass."""
    return BeforeValidator(lambda value: read(value) if type(value) is str else value)


def _check_volume(name: str) -> str:
    if wrong := name_problem("volume", name):
        raise ConfigError(wrong)
    if re.fullmatch(TAKEN_BY_NETWORK, name, re.IGNORECASE):
        raise ConfigError(
            f"volume is {name!r}, the name of a file or folder beside the volumes' own "
            "in the results; call it otherwise"
        )
    return name


def _check_fold(name: str) -> str:
    # A network is named fold-<fold>, and may have 64 letters like everything else.
    if name and (wrong := name_problem("fold", name, longest=59)):
        raise ConfigError(wrong)
    return name


def _one_of(column: str, words: tuple[str, ...]) -> BeforeValidator:
    def check(word: str) -> str:
        if word not in words:
            raise ConfigError(f"{column} is {word!r}; use {', '.join(words)}")
        return word

    return _of_text(check)


def _check_axes(axes: str) -> str:
    if axes and not re.match(AXES_PATTERN, axes):
        raise ConfigError(
            f"axes is {axes!r}; use each of t, c, z, y, x at most once, with y and x, "
            "in the order of the file"
        )
    return axes


def _read_time(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ConfigError(f"time is {text!r}; use one time point's number, from 0")
    return int(text)


def _read_level(text: str) -> int:
    if not re.fullmatch("[0-9]{1,2}", text):
        raise ConfigError(
            f"level is {text!r}; use the number of a level of the image's pyramid, 0 "
            "for full resolution"
        )
    return int(text)


def _read_channels(text: str) -> tuple[str, ...]:
    channels = tuple(filter(None, map(str.strip, text.split(","))))
    if len(set(channels)) < len(channels):
        raise ConfigError(f"channels is {text!r}; name each channel once")
    return channels


def _read_voxel_size(text: str) -> tuple[float, float, float]:
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        z = y = x = 0.0
    if not (min(z, y, x) > 0 and isfinite(z + y + x)):
        raise ConfigError(
            f"voxel_size_nm is {text!r}; use three positive lengths z,y,x like 50,4,4"
        )
    return z, y, x


def _read_corners(text: str) -> tuple[tuple[int, int, int], ...]:
    """Return the corners of boxes: ``4,256,0; 40,0,512`` are two."""
    corners = []
    for part in filter(None, map(str.strip, text.split(BETWEEN_BOXES))):
        numbers = re.split(r"\s*,\s*|\s+", part)
        if len(numbers) != 3 or not all(re.fullmatch("[0-9]{1,9}", n) for n in numbers):
            raise ConfigError(
                f"labels_at is {text!r}; use the first voxel z,y,x of the labels in "
                "the image, from 0, like 16,512,768; with a semicolon between boxes"
            )
        z, y, x = map(int, numbers)
        corners.append((z, y, x))
    return tuple(corners)


def _read_unlabelled(text: str) -> int | None:
    if text != "none" and not re.fullmatch("-?[0-9]{1,20}", text):
        raise ConfigError(f"unlabelled is {text!r}; use none or a label id")
    return None if text == "none" else int(text)


def _read_optional(text: str) -> bool:
    if text != "yes":
        raise ConfigError(f"optional is {text!r}; use yes, or leave it empty")
    return True


class Row(Section):
    """One range of sections of a volume in one role: a field for each column.

    ``sections`` is None for all of them, else sorted section numbers from 0. ``time``
    and ``voxel_size_nm`` are None where the file is to say it, ``channels`` is empty.
    ``unlabelled`` is the label id of voxels that nobody annotated, or None. The files
    of an ``optional`` row may be missing in a local folder. ``well`` and ``field`` tell
    where on a plate the volume lies, ``conditions`` what the columns hold whose names
    begin with ``condition_``; nothing depends on them.

    ``labels`` may name several files, of boxes whose first voxels ``labels_at`` names;
    outside the masks of ``field_of_view`` nobody annotated anything.

    Each field takes a cell's text or its value.
    """

    volume: Annotated[str, _of_text(_check_volume)]
    image: str
    labels: str = ""
    labels_at: Annotated[tuple[Zyx, ...], _of_text(_read_corners)] = ()
    field_of_view: str = ""
    sections: Annotated[tuple[int, ...] | None, _of_text(parse_sections)] = None
    role: Annotated[str, _one_of("role", ROLES)]
    fold: Annotated[str, _of_text(_check_fold)] = ""
    axes: Annotated[str, _of_text(_check_axes)] = ""
    time: Annotated[int | None, _of_text(_read_time)] = None
    channels: Annotated[tuple[str, ...], _of_text(_read_channels)] = ()
    level: Annotated[int, _of_text(_read_level)] = 0
    voxel_size_nm: Annotated[
        tuple[float, float, float] | None, _of_text(_read_voxel_size)
    ] = None
    label_kind: Annotated[str, _one_of("label_kind", LABEL_KINDS)] = Field("instances")
    unlabelled: Annotated[int | None, _of_text(_read_unlabelled)] = None
    optional: Annotated[bool, _of_text(_read_optional)] = False
    well: str = ""
    field: str = ""
    conditions: dict[str, str] = Field({})

    @model_validator(mode="after")
    def _check(self) -> "Row":
        if not self.label_cells and self.role != "predict":
            raise ConfigError(
                f"role is {self.role} but labels is empty; without labels use predict"
            )
        if self.label_kind == "masks" and self.unlabelled is not None:
            raise ConfigError(
                f"unlabelled is {self.unlabelled}, but label_kind masks has no ids; "
                "leave it empty"
            )
        boxes, corners = len(self.label_cells), len(self.labels_at)
        if corners and corners != boxes:
            raise ConfigError(
                f"labels_at has {corners} corner{'s' * (corners != 1)}, labels names "
                f"{boxes} file{'s' * (boxes != 1)}; give each its corner, with a "
                "semicolon between them"
            )
        if self.field_of_view and not self.labels:
            raise ConfigError(
                f"field_of_view is {self.field_of_view!r} but labels is empty; it says "
                "where labels count: leave it empty"
            )
        return self

    @property
    def label_cells(self) -> tuple[str, ...]:
        """What ``labels`` names: one file or pattern, or one for each box."""
        return tuple(filter(None, map(str.strip, self.labels.split(BETWEEN_BOXES))))

    @property
    def file_cells(self) -> dict[str, tuple[str, ...]]:
        """What each column names of files, by column."""
        view = (self.field_of_view,) if self.field_of_view else ()
        return {
            "image": (self.image,),
            "labels": self.label_cells,
            "field_of_view": view,
        }

    def about(self) -> dict[str, str]:
        """Return what tells the volume apart in tables: its name, place, conditions."""
        placed = {"volume": self.volume, "well": self.well, "field": self.field}
        return placed | self.conditions

    def section_numbers(self, num_sections: int) -> tuple[int, ...]:
        """Return the row's sections of a volume that has ``num_sections``.

        Raises
        ------
        ConfigError
            If the row names a section that the volume does not have.
        """
        if self.sections is None:
            return tuple(range(num_sections))
        if self.sections and self.sections[-1] >= num_sections:
            raise ConfigError(
                f"volume {self.volume}: the sheet names section {self.sections[-1]}, "
                f"the image has sections 0 to {num_sections - 1}; correct `sections`"
            )
        return self.sections


COLUMNS = tuple(name for name in Row.model_fields if name != "conditions")
REQUIRED = tuple(
    name for name, field in Row.model_fields.items() if field.is_required()
)


def parse_row(header: list[str], cells: list[str]) -> tuple[Row | None, list[str]]:
    """Return the row that the cells of a line make, or else what is wrong with them."""
    if wrong := _count_problem(header, cells):
        return None, [wrong]
    given = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
    if "" in given:
        return None, [f"{given['']!r} stands in a column without a name; name it"]
    told = {name: given.pop(name, "") for name in header if CONDITION.match(name)}
    try:
        return Row.model_validate(given | {"conditions": told}), []
    except ValidationError as error:
        return None, [
            f"{problem['loc'][0]} is empty"
            if problem["type"] == "missing"
            else problem["msg"].removeprefix("Value error, ")
            for problem in error.errors()
        ]


def _count_problem(header: list[str], cells: list[str]) -> str:
    """Return what is wrong with a line's number of cells; empty last ones may lack."""
    if any(cells[len(header) :]):
        return (
            f"{len(cells)} cells under {len(header)} columns; remove what is too much"
        )
    missing = [name for name in header[len(cells) :] if name in REQUIRED]
    if not missing:
        return ""
    if any(re.search(r"\S {2,}\S", cell) for cell in cells) or len(cells) == 1:
        return (
            f"{len(cells)} cell{'s' * (len(cells) != 1)} under {len(header)} columns; "
            "separate with tabs, not with spaces"
        )
    return (
        f"{len(cells)} cells under {len(header)} columns: {missing[0]} is missing; "
        "separate with tabs, also where a cell is empty"
    )


def split_header(line: str) -> list[str]:
    """Split the line of the columns' names; spreadsheets save empty columns behind."""
    names = split_cells(line)
    while names and not names[-1]:
        names.pop()
    return names


def split_cells(line: str) -> list[str]:
    """Split one line; a stray quote cannot swallow the lines that follow."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter="\t"))]
    except csv.Error as error:
        raise ConfigError(
            f"a line begins {line[:40]!r} and cannot be read ({error}); a cell holds "
            f"at most {csv.field_size_limit()} characters"
        ) from None


def header_problems(number: int, line: str) -> list[str]:
    """Return what is wrong with the line that names the columns."""
    if "\t" not in line:
        for mark, spelled in ((None, "spaces"), (",", "commas"), (";", "semicolons")):
            names = line.strip().split(mark)
            if len(names) > 1 and names[0].strip('" ') in COLUMNS:
                return [
                    f"line {number}: {spelled} separate the columns; use tabs, in "
                    "every line (spreadsheets save them as `text, tab-separated`, .tsv)"
                ]
    names = split_header(line)
    problems = [
        f"column {name} appears twice; keep one"
        for name in dict.fromkeys(names)
        if name and names.count(name) > 1
    ]
    for name in dict.fromkeys(names):
        if name and name not in COLUMNS and not CONDITION.match(name):
            close = get_close_matches(str(name), COLUMNS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"use {', '.join(COLUMNS)}"
            if not close:
                hint += ", or for what was done to the sample condition_NAME"
            problems.append(f"unknown column {name!r}; {hint}")
    problems += [f"column {name} is missing" for name in REQUIRED if name not in names]
    return problems
