"""The sheet ``volumes.tsv``: which sections of which volume play which role."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath

from unetpipe.config.sheet_cells import (
    COLUMNS,
    LABEL_KINDS,
    ROLES,
    Row,
    header_problems,
    parse_row,
    parse_sections,
    split_cells,
    split_header,
)
from unetpipe.errors import ConfigError

__all__ = [
    "COLUMNS",
    "LABEL_KINDS",
    "ROLES",
    "Row",
    "Sheet",
    "load_sheet",
    "parse_sections",
    "parse_sheet",
]

# What rows of one volume may differ in; of ``optional`` a message of its own speaks.
OF_ROW = ("sections", "role", "fold")
OF_VOLUME = [*(name for name in COLUMNS if name not in ("optional", *OF_ROW))]
OF_VOLUME += ["conditions"]
LISTED = 10  # sections named in a message


@dataclass(frozen=True, slots=True)
class Sheet:
    """All rows, checked."""

    rows: tuple[Row, ...]
    _of_volume: dict[str, tuple[Row, ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.volume, []).append(row)
        by_volume = {volume: tuple(rows) for volume, rows in found.items()}
        object.__setattr__(self, "_of_volume", by_volume)

    @property
    def volumes(self) -> tuple[str, ...]:
        """Names of the volumes, in the order of the sheet."""
        return tuple(self._of_volume)

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds, sorted; one without a name where there are none."""
        return tuple(sorted({row.fold for row in self.rows if row.fold})) or ("",)

    def of_volume(self, volume: str) -> tuple[Row, ...]:
        """Return the rows of one volume."""
        return self._of_volume.get(volume, ())

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
    problems = header_problems(*numbered[0])
    rows: list[Row] = []
    if not problems:
        header = split_header(numbered[0][1])
        for number, line in numbered[1:]:
            row, wrong = parse_row(header, split_cells(line))
            problems += [f"line {number}: {problem}" for problem in wrong]
            rows += [row] if row else []
        problems += _problems_together(rows)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        raise ConfigError("\n  ".join([f"{source}: {count}", *problems]))
    return Sheet(tuple(rows))


def _problems_together(rows: Iterable[Row]) -> list[str]:
    """Check rows against each other: one volume, same files; one section, one role."""
    problems = []
    first: dict[str, Row] = {}
    names: dict[tuple[str, str], str] = {}
    taken: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        other = first.setdefault(row.volume, row)
        for column in OF_VOLUME:
            mine, theirs = getattr(row, column), getattr(other, column)
            if mine != theirs:
                problems.append(
                    f"volume {row.volume}: {column} is {mine!r} in one row and "
                    f"{theirs!r} in another; one volume has one {column}"
                )
        if row.optional != other.optional:
            problems.append(
                f"volume {row.volume}: optional is yes in one row and empty in "
                "another; write yes into all rows of the volume, or into none"
            )
        for kind, name in (("volume", row.volume), ("fold", row.fold)):
            same = names.setdefault((kind, name.casefold()), name)
            if same != name:
                problems.append(
                    f"{kind}s {same} and {name} differ only in case; rename one"
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
