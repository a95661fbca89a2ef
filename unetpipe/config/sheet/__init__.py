"""The sheet ``volumes.tsv``: which sections of which volume play which role.

::

    rows        one row, and all of them
    header      lines and columns;  cells   values of one line
    together    rows against each other
    reading     a file to a checked sheet
"""

from unetpipe.config.sheet.cells import LABEL_KINDS, ROLES, TAKEN, parse_sections
from unetpipe.config.sheet.header import COLUMNS
from unetpipe.config.sheet.reading import load_sheet, parse_sheet
from unetpipe.config.sheet.rows import Row, Sheet

__all__ = [
    "COLUMNS",
    "LABEL_KINDS",
    "ROLES",
    "TAKEN",
    "Row",
    "Sheet",
    "load_sheet",
    "parse_sections",
    "parse_sheet",
]
