"""An ensemble on a page: who its members are, instead of how it was trained."""

from collections.abc import Iterable, Sequence
from typing import Any

from unetpipe.metrics.names import plain_metric_name
from unetpipe.records.model import LearntRow
from unetpipe.report.page.run import Network
from unetpipe.report.page.text import (
    format_score,
    format_threshold,
)
from unetpipe.runtime.text import count_in_words, format_sections

MOST_VOLUMES = 2  # whose sections are listed


def show_members(members: Sequence[Network]) -> list[dict[str, Any]]:
    """Return one line a member: where its page is, what it is worth by itself."""
    return [_show_member(member) for member in members]


def _show_member(member: Network) -> dict[str, Any]:
    description = member.description
    steps = member.training.steps if member.training else None
    return {
        "name": member.name,
        "page": member.page,
        "steps": f"{steps:,}" if steps is not None else "",
        "kept": f"{description.step:,}" if description.step is not None else "",
        "learnt": _sections(member.learnt("train")),
        "validated": _sections(member.learnt("validate")),
        "scores": ", ".join(
            f"{plain_metric_name(key)} {format_score(score)}"
            for key, score in description.validation.items()
        ),
        "threshold": format_threshold(description.chosen_threshold),
    }


def _sections(rows: Iterable[LearntRow]) -> str:
    """Return the sections of some rows, volume by volume."""
    found: dict[str, set[int]] = {}
    for row in rows:
        found.setdefault(row.volume, set()).update(row.sections)
    texts = [f"{v}: {format_sections(sorted(z))}" for v, z in found.items()]
    more = len(texts) - MOST_VOLUMES
    return "; ".join(texts[:MOST_VOLUMES]) + (f" and {more} more" if more > 0 else "")


def describe_ensemble(num_members: int, num_parameters: int) -> str:
    """Return what an ensemble is in a few words."""
    each = count_in_words(num_parameters)
    return f"the mean of {num_members} networks of {each} parameters"
