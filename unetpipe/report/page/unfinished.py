"""What a page of a run that is not whole has at its head."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unetpipe.report.page.templates import render

HEADER = b"<header>\n"
BEGIN, END = b'<div class="failed" role="alert">', b"<!-- what is done -->"


def tell_first(
    page: bytes,
    failed: Sequence[Mapping[str, str]],
    *,
    num_volumes: int,
    num_waiting: int,
    sheet: str,
) -> bytes:
    """Return a page that tells first which volumes failed, in place of an older notice.

    Parameters
    ----------
    page : bytes
    failed : sequence of mapping
        ``volume``, ``network`` (empty: of all), ``step`` and ``note``.
    num_volumes : int
        Of which they failed.
    num_waiting : int
        Predictions that are not made, and have not failed.
    sheet : str
        Where a row may be left out.
    """
    head, start, rest = page.partition(HEADER)
    if BEGIN in rest:
        rest = rest.partition(END)[2]
    told = {
        "failed": failed,
        "num_failed": len({one["volume"] for one in failed}),
        "num_volumes": num_volumes,
        "num_waiting": num_waiting,
        "sheet": sheet,
    }
    notice = render("unfinished.html", told) if failed or num_waiting else b""
    return head + start + notice + rest


def is_unfinished(page: Path) -> bool:
    """Return whether a page is there that tells of what is not done."""
    if not page.exists():
        return False
    with page.open("rb") as lines:  # pictures come later
        for line in lines:
            if BEGIN in line:
                return True
            if b"</header>" in line:
                break
    return False
