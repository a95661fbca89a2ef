"""The sheet ``volumes.tsv``: which sections of which volume play which role."""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from posixpath import normpath

from unetpipe.config import NAME_PATTERN
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
)
REQUIRED = ("volume", "image", "role")
ROLES = ("train", "validate", "test", "predict")
LISTED = 10  # sections named in a message
# A network's folder holds its volumes, the state of its training, and former weights.
TAKEN = r"state|weights-.*"
LABEL_KINDS = ("instances", "binary", "classes", "masks")
AXES_PATTERN = r"^(?=.*y)(?=.*x)(?!.*(.).*\1)[tczyx]{2,5}$"


@dataclass(frozen=True, slots=True)
class Row:
    """One range of sections of a volume in one role.

    ``sections`` is None for all of them, else sorted section numbers from 0. ``time``
    and ``voxel_size_nm`` are None where the file is to say it, ``channels`` is empty.
    ``unlabelled`` is the label id of voxels that nobody annotated, or None.
    """

    volume: str
    image: str
    labels: str
    sections: tuple[int, ...] | None
    role: str
    fold: str
    axes: str
    voxel_size_nm: tuple[float, float, float] | None
    label_kind: str
    unlabelled: int | None
    time: int | None = None
    channels: tuple[str, ...] = ()

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


@dataclass(frozen=True, slots=True)
class Sheet:
    """All rows, checked."""

    rows: tuple[Row, ...]

    @property
    def volumes(self) -> tuple[str, ...]:
        """Names of the volumes, in the order of the sheet."""
        return tuple(dict.fromkeys(row.volume for row in self.rows))

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds, sorted; one without a name where there are none."""
        return tuple(sorted({row.fold for row in self.rows if row.fold})) or ("",)

    def of_volume(self, volume: str) -> tuple[Row, ...]:
        """Return the rows of one volume."""
        return tuple(row for row in self.rows if row.volume == volume)

    def of_fold(self, fold: str, *roles: str) -> tuple[Row, ...]:
        """Return the rows that the networks of a fold use in these roles."""
        return tuple(
            row for row in self.rows if row.fold in ("", fold) and row.role in roles
        )

    def volumes_of(self, fold: str, *roles: str) -> tuple[str, ...]:
        """Return the volumes with rows of a fold in these roles."""
        return tuple(dict.fromkeys(row.volume for row in self.of_fold(fold, *roles)))


def load_sheet(path: Path) -> Sheet:
    """Read a tab-separated sheet; lines that start with # are comments.

    All cells are read as text, so that a sequence ``01`` stays ``01``.

    Raises
    ------
    ConfigError
        Listing every problem at once: line, column, value, and what would work.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a mark in front
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; name a sheet with the key `volumes`"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text ({error}); save it so") from None
    except (OSError, ValueError) as error:  # a folder, no rights, a NUL in the path
        raise ConfigError(
            f"{str(path)!r} cannot be read ({error}); name a sheet with the key "
            "`volumes`"
        ) from None
    return parse_sheet(text, str(path))


def parse_sheet(text: str, source: str = "sheet") -> Sheet:
    """Read a sheet from text; see ``load_sheet``."""
    numbered = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    ]
    if len(numbered) < 2:
        raise ConfigError(f"{source} has no rows; columns are {', '.join(COLUMNS)}")
    header = _cells(numbered[0][1])
    problems = _check_tabs(*numbered[0]) or _check_header(header)
    rows: list[Row] = []
    if not problems:
        for number, line in numbered[1:]:
            row, wrong = _parse_row(header, _cells(line))
            problems += [f"line {number}: {problem}" for problem in wrong]
            rows += [row] if row else []
        problems += _check_together(rows)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        raise ConfigError("\n  ".join([f"{source}: {count}", *problems]))
    return Sheet(tuple(rows))


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


def _cells(line: str) -> list[str]:
    """Split one line; a stray quote cannot swallow the lines that follow."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter="\t"))]
    except csv.Error as error:
        raise ConfigError(
            f"a line begins {line[:40]!r} and cannot be read ({error}); a cell holds "
            f"at most {csv.field_size_limit()} characters"
        ) from None


def _check_tabs(number: int, line: str) -> list[str]:
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


def _check_header(names: list[str]) -> list[str]:
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


def _check_cells(header: list[str], cells: list[str]) -> str:
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


def _parse_row(header: list[str], cells: list[str]) -> tuple[Row | None, list[str]]:
    if wrong := _check_cells(header, cells):
        return None, [wrong]
    get = dict.fromkeys(COLUMNS, "") | dict(zip(header, cells, strict=False))
    problems = []
    # A network is named fold-<fold>, and may have 64 letters like everything else.
    for column, longest in (("volume", 64), ("fold", 59)):
        name = get[column]
        if name and not (re.fullmatch(NAME_PATTERN, name) and len(name) <= longest):
            problems.append(
                f"{column} is {name!r}; use letters, digits, '.', '_' and '-', "
                f"at most {longest}, no leading dot"
            )
    if re.fullmatch(TAKEN, get["volume"]):
        problems.append(
            f"volume is {get['volume']!r}, the name of a folder beside the volumes' "
            "own in the results; call it otherwise"
        )
    for column in REQUIRED:
        if not get[column]:
            problems.append(f"{column} is empty")
    if get["role"] and get["role"] not in ROLES:
        problems.append(f"role is {get['role']!r}; use {', '.join(ROLES)}")
    kind = get["label_kind"] or "instances"
    if kind not in LABEL_KINDS:
        problems.append(f"label_kind is {kind!r}; use {', '.join(LABEL_KINDS)}")
    if get["axes"] and not re.match(AXES_PATTERN, get["axes"]):
        problems.append(
            f"axes is {get['axes']!r}; use each of t, c, z, y, x at most once, with y "
            "and x, in the order of the file"
        )
    if not get["labels"] and get["role"] in ("train", "validate", "test"):
        problems.append(
            f"role is {get['role']} but labels is empty; without labels use predict"
        )
    sections, voxel_size, unlabelled, time = None, None, None, None
    try:
        sections = parse_sections(get["sections"])
    except ConfigError as error:
        problems.append(str(error))
    try:
        voxel_size = _parse_voxel_size(get["voxel_size_nm"])
    except ConfigError as error:
        problems.append(str(error))
    if re.fullmatch("[0-9]{1,9}", get["time"]):
        time = int(get["time"])
    elif get["time"]:
        problems.append(f"time is {get['time']!r}; use one time point's number, from 0")
    channels = tuple(filter(None, map(str.strip, get["channels"].split(","))))
    if len(set(channels)) < len(channels):
        problems.append(f"channels is {get['channels']!r}; name each channel once")
    if get["unlabelled"] not in ("", "none"):
        if re.fullmatch("[0-9]{1,20}", get["unlabelled"]):
            unlabelled = int(get["unlabelled"])
        else:
            problems.append(
                f"unlabelled is {get['unlabelled']!r}; use none or a label id"
            )
    if kind == "masks" and unlabelled is not None:
        problems.append(
            f"unlabelled is {unlabelled}, but label_kind masks has no ids; leave it "
            "empty"
        )
    if problems:
        return None, problems
    row = Row(
        volume=get["volume"],
        image=get["image"],
        labels=get["labels"],
        sections=sections,
        role=get["role"],
        fold=get["fold"],
        axes=get["axes"],
        voxel_size_nm=voxel_size,
        label_kind=kind,
        unlabelled=unlabelled,
        time=time,
        channels=channels,
    )
    return row, []


def _parse_voxel_size(text: str) -> tuple[float, float, float] | None:
    if not text:
        return None
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        z = y = x = 0.0
    if not (min(z, y, x) > 0 and isfinite(z + y + x)):
        raise ConfigError(
            f"voxel_size_nm is {text!r}; use three positive lengths z,y,x like 50,4,4"
        )
    return z, y, x


def _check_together(rows: Iterable[Row]) -> list[str]:
    """Check rows against each other: one volume, same files; one section, one role."""
    problems = []
    first: dict[str, Row] = {}
    names: dict[str, str] = {}
    taken: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        other = first.setdefault(row.volume, row)
        for column in (
            "image",
            "labels",
            "axes",
            "time",
            "channels",
            "voxel_size_nm",
            "label_kind",
            "unlabelled",
        ):
            mine, theirs = getattr(row, column), getattr(other, column)
            if mine != theirs:
                problems.append(
                    f"volume {row.volume}: {column} is {mine!r} in one row and "
                    f"{theirs!r} in another; one volume has one {column}"
                )
        same = names.setdefault(row.volume.casefold(), row.volume)
        if same != row.volume:
            problems.append(
                f"volumes {same} and {row.volume} differ only in case; rename one"
            )
        # By image, not by volume: an image under two names would leak just as well.
        image = normpath(row.image), row.time or 0
        for earlier in taken.setdefault(image, []):
            if "" in (earlier.fold, row.fold) or earlier.fold == row.fold:
                problems += _overlap(earlier, row)
        taken[image].append(row)
    return problems


def _overlap(one: Row, two: Row) -> list[str]:
    if "predict" in (one.role, two.role):
        return []
    if one.sections is None or two.sections is None:
        shared = "all"
    else:
        both = sorted(set(one.sections) & set(two.sections))
        more = f" and {len(both) - LISTED} more" if len(both) > LISTED else ""
        shared = f"{both[:LISTED]}{more}" if both else ""
    if not shared:
        return []
    names = " and ".join(dict.fromkeys([one.volume, two.volume]))
    return [
        f"volume {names}: sections {shared} are both {one.role} and {two.role}; "
        "give each section one role"
    ]
