"""A file of text to a sheet, with all its problems at once."""

from pathlib import Path

from unetpipe.config.sheet.cells import parse_row
from unetpipe.config.sheet.header import COLUMNS, check_header, check_tabs, split_cells
from unetpipe.config.sheet.rows import Row, Sheet
from unetpipe.config.sheet.together import check_together
from unetpipe.errors import ConfigError


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
    header = split_cells(numbered[0][1])
    problems = check_tabs(*numbered[0]) or check_header(header)
    rows: list[Row] = []
    if not problems:
        for number, line in numbered[1:]:
            row, wrong = parse_row(header, split_cells(line))
            problems += [f"line {number}: {problem}" for problem in wrong]
            rows += [row] if row else []
        problems += check_together(rows)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        raise ConfigError("\n  ".join([f"{source}: {count}", *problems]))
    return Sheet(tuple(rows))
