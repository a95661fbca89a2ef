"""Rows of the sheet against each other."""

from collections.abc import Iterable
from posixpath import normpath

from unetpipe.config.sheet.header import COLUMNS, OF_ROW
from unetpipe.config.sheet.rows import Row

# What rows of one volume repeat; of ``optional`` a message of its own speaks.
OF_VOLUME = [name for name in COLUMNS if name not in ("optional", *OF_ROW)]
LISTED = 10  # sections named in a message


def check_together(rows: Iterable[Row]) -> list[str]:
    """Check rows against each other: one volume, same files; one section, one role."""
    problems = []
    first: dict[str, Row] = {}
    names: dict[str, str] = {}
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
