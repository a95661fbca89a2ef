"""What a benchmark finds, as a table for people and as JSON for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


class CannotRun(Exception):
    """Something that a benchmark needs is not on this machine."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, what it was measured against, and what it should be.

    ``unit`` is ``x`` for a ratio of speeds, empty for a plain ratio. ``details`` are
    the raw measurements behind it, for the JSON file.
    """

    name: str
    value: float
    unit: str = ""
    basis: str = ""
    at_least: float | None = None
    at_most: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """Return the target as people write it; empty if there is none."""
        if self.at_least is not None:
            return f">= {_number(self.at_least)}"
        if self.at_most is not None:
            return f"<= {_number(self.at_most)}"
        return ""

    @property
    def is_missed(self) -> bool:
        """Return whether there is a target and this figure is not there."""
        return (self.at_least is not None and self.value < self.at_least) or (
            self.at_most is not None and self.value > self.at_most
        )


@dataclass(frozen=True, slots=True)
class Section:
    """The figures of one benchmark, or why there are none."""

    name: str
    seconds: float
    figures: Sequence[Figure] = ()
    left_out: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


HEAD = ("benchmark", "figure", "value", "target", "measured")


def format_table(sections: Sequence[Section], *, is_quick: bool) -> str:
    """Return one Markdown table of all sections, aligned.

    With ``is_quick`` the sizes are toys, so nothing is held against the targets.
    """
    rows = [HEAD]
    for section in sections:
        if section.left_out:
            rows.append((section.name, "left out", "", "", section.left_out))
        for figure in section.figures:
            target = figure.target
            if target and not is_quick:
                target += " MISSED" if figure.is_missed else " met"
            value = f"{_number(figure.value)} {figure.unit}".strip()
            rows.append((section.name, figure.name, value, target, figure.basis))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(map(str.ljust, row, widths)).rstrip() + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _number(value: float) -> str:
    """Return three significant digits, without an exponent where people read it."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.1e}"
