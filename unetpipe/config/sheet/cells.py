"""Cells of one line of the sheet: text to values, and what is wrong with them."""

import re
from math import isfinite

from unetpipe.config import NAME_PATTERN
from unetpipe.config.sheet.header import COLUMNS, REQUIRED
from unetpipe.config.sheet.rows import Row
from unetpipe.errors import ConfigError

ROLES = ("train", "validate", "test", "predict")
# A network's folder holds its volumes, the state of its training, and former weights.
TAKEN = r"state|weights-.*"
LABEL_KINDS = ("instances", "binary", "classes", "masks")
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


def parse_row(header: list[str], cells: list[str]) -> tuple[Row | None, list[str]]:
    """Return the row that the cells of a line make, or else what is wrong with them."""
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
        if re.fullmatch("-?[0-9]{1,20}", get["unlabelled"]):
            unlabelled = int(get["unlabelled"])
        else:
            problems.append(
                f"unlabelled is {get['unlabelled']!r}; use none or a label id"
            )
    if get["optional"] not in ("", "yes"):
        problems.append(f"optional is {get['optional']!r}; use yes, or leave it empty")
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
        optional=get["optional"] == "yes",
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
