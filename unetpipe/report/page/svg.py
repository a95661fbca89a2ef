"""Charts as small inline SVG: they take the page's colours, light or dark, and print.

Numbers in, markup out; the same numbers give the same bytes. Lines differ in dashes as
well as in colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import ceil, floor, log10

from markupsafe import Markup

WIDTH, HEIGHT = 330, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 18, 26, 34
LETTER = 6  # wide, in the smallest type
MOST_POINTS = 240  # of a line
LEGEND_STEP, LEGEND_COLUMNS = 15, 2
NAMES = 138  # left of a chart whose rows have names
FILE_HEIGHT = HEIGHT + 2 * LEGEND_STEP

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: points, a name for the legend, and how it is drawn.

    ``look`` is a class of the style sheet: s0 (strongest) to s5, or soft.
    """

    points: Sequence[Point]
    name: str = ""
    look: str = "s0"
    has_dots: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A point or, without ``y``, a place on the x axis, with words beside it."""

    x: float
    text: str
    y: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval, and what it is of."""

    name: str
    value: float
    interval: Point | None = None
    look: str = "s0"


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where numbers lie in the picture."""

    x: Point
    y: Point
    left: int = LEFT

    def at(self, x: float, y: float) -> Point:
        width, height = WIDTH - self.left - RIGHT, HEIGHT - TOP - BOTTOM
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        up = min(max(up, -0.02), 1.02)  # beyond the frame it ends at the frame
        return round(self.left + width * across, 1), round(TOP + height * (1 - up), 1)


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    x: Point | None = None,
    y: Point | None = None,
    marks: Sequence[Mark] = (),
    note: str = "",
) -> Markup:
    """Return a chart of lines; the description names its title and last values.

    Parameters
    ----------
    title, x_label : str
    lines : list of Line
        Lines without points are left out.
    x, y : (low, high), optional
        Ranges of the axes; by default what the points need, y from 0 if that is near.
    marks : list of Mark
    note : str
        Shown instead of lines, where there are none.
    """
    drawn = [line for line in lines if line.points]
    if not drawn:
        return _nothing(title, note)
    xs = [p[0] for line in drawn for p in line.points]
    ys = [p[1] for line in drawn for p in line.points]
    frame = _Frame(x or (min(xs), max(xs)), y or _range_of(ys))
    parts = [_axes(frame, x_label)]
    parts += [_draw(frame, line) for line in drawn]
    parts += [_draw_mark(frame, mark) for mark in marks]
    named = [line for line in drawn if line.name]
    parts.append(_legend(named))
    ends = "; ".join(
        f"{line.name or title} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}"
        for line in drawn
    )
    return _svg(
        title, f"{title} over {x_label}: {ends}", Markup("").join(parts), len(named)
    )


def bar_chart(
    title: str,
    groups: Sequence[str],
    series: Sequence[tuple[str, Sequence[float]]],
    *,
    x_label: str,
) -> Markup:
    """Return bars side by side: one group a label, one bar a series in each.

    Parameters
    ----------
    title, x_label : str
    groups : list of str
        Labels below the groups.
    series : list of (name, values)
        As many values as groups, none negative.
    """
    top = max((v for _, values in series for v in values), default=0) or 1
    frame = _Frame((0, len(groups)), (0, 1.08 * top))
    parts = [_axes(frame, x_label, x_ticks=False)]
    width = 0.8 / max(1, len(series))
    for number, (_, values) in enumerate(series):
        for place, value in enumerate(values):
            left, high = frame.at(place + 0.1 + width * number, value)
            right, low = frame.at(place + 0.1 + width * (number + 1), 0)
            parts.append(
                Markup(
                    '<rect class="b{}" x="{}" y="{}" width="{}" height="{}"/>'
                ).format(
                    number, left, high, round(right - left, 1), round(low - high, 1)
                )
            )
    widest = LETTER * (2 + max((len(group) for group in groups), default=0))
    room = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    every = max(1, ceil(len(groups) / 8), ceil(widest / room))
    for place in range(0, len(groups), every):
        at, _ = frame.at(place + 0.5, 0)
        parts.append(_text(at, HEIGHT - BOTTOM + 12, groups[place], "middle"))
    looks = [Line([], name, f"b{k}") for k, (name, _) in enumerate(series)]
    parts.append(_legend(looks))
    told = "; ".join(
        f"{group}: " + ", ".join(f"{values[k]:g} {name}" for name, values in series)
        for k, group in enumerate(groups)
    )
    return _svg(
        title, f"{title} by {x_label}: {told}", Markup("").join(parts), len(looks)
    )


def interval_chart(
    title: str, rows: Sequence[Estimate], *, at: float, note: str = ""
) -> Markup:
    """Return one row a value: its name, a dot, and a line as long as its interval.

    Parameters
    ----------
    title : str
    rows : list of Estimate
        From top to bottom.
    at : float
        The value to compare with, drawn as a line through all rows.
    note : str
        Shown where there are no rows.
    """
    if not rows:
        return _nothing(title, note)
    ends = [end for row in rows for end in (row.value, *(row.interval or ()))]
    low, high = min(at, *ends), max(at, *ends)
    margin = 0.06 * ((high - low) or abs(high) or 1.0)
    frame = _Frame((low - margin, high + margin), (len(rows), 0.0), NAMES)
    parts = [_x_axis(frame), _draw_mark(frame, Mark(at, f"{at:g}"))]
    for place, row in enumerate(rows):
        x, y = frame.at(row.value, place + 0.5)
        if row.interval:
            (left, _), (right, _) = (frame.at(end, place) for end in row.interval)
            line = Markup('<path class="line {}" d="M{} {}H{}"/>')
            parts.append(line.format(row.look, left, y, right))
        dot = Markup('<circle class="dot {}" cx="{}" cy="{}" r="3.2"/>')
        parts.append(dot.format(row.look, x, y))
        parts.append(_text(4, y + 3.5, row.name, "start"))
    told = "; ".join(
        f"{row.name}: {row.value:.3g}"
        + (" ({:.3g} to {:.3g})".format(*row.interval) if row.interval else "")
        for row in rows
    )
    return _svg(
        title, f"{title}, to compare with {at:g}: {told}", Markup("").join(parts)
    )


def standalone_svg(charts: Sequence[Markup]) -> bytes:
    """Return charts side by side as an SVG file of its own, on paper."""
    parts = []
    for place, chart in enumerate(charts):
        at = f'<svg x="{WIDTH * place}" y="0" width="{WIDTH}" height="{FILE_HEIGHT}" '
        parts.append(str(chart).replace("<svg ", at, 1))
    size = f'width="{WIDTH * len(charts)}" height="{FILE_HEIGHT}"'
    style = files("unetpipe.report.page").joinpath("style.css").read_text()
    chosen = [line for line in style.splitlines() if line.startswith("svg.chart ")]
    root, _, _ = style.partition("@media")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" '
        f'font-size="11"><style>{root}{"".join(chosen)}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    ).encode()


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most so many points: means of equally many neighbours each.

    Examples
    --------
    >>> thin([(1, 4.0), (2, 6.0), (3, 1.0), (4, 1.0)], most=2)
    [(2, 5.0), (4, 1.0)]
    """
    width = -(-len(points) // most)
    groups = [points[i : i + width] for i in range(0, len(points), max(1, width))]
    return [(g[-1][0], sum(p[1] for p in g) / len(g)) for g in groups]


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers between two ends.

    Examples
    --------
    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** floor(log10(span / most))
    step = next(f * power for f in (1, 2, 5, 10) if span / (f * power) <= most + 1e-9)
    first = -(-low // step)
    count = int((high - first * step) / step + 1e-9) + 1
    return [round(float((first + k) * step), 12) for k in range(max(0, count))]


def _nothing(title: str, note: str) -> Markup:
    told = note or "no values"
    body = _text(WIDTH / 2, HEIGHT / 2, told, "middle")
    return _svg(title, f"{title}: {told}", body)


def _range_of(values: Sequence[float]) -> Point:
    low, high = min(values), max(values)
    if 0 <= low <= high / 2 or 0 < low == high:
        low = 0.0
    margin = 0.06 * ((high - low) or abs(high) or 1.0)
    return (low if low == 0 else low - margin), high + margin


def _axes(frame: _Frame, x_label: str, *, x_ticks: bool = True) -> Markup:
    parts = []
    for value in ticks(*frame.y, most=4):
        _, y = frame.at(frame.x[0], value)
        parts.append(
            Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, y, WIDTH - RIGHT)
        )
        parts.append(_text(LEFT - 5, y + 3.5, short_number(value), "end"))
    parts.append(_x_axis(frame, x_ticks=x_ticks))
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 6, x_label, "end"))
    return Markup("").join(parts)


def _x_axis(frame: _Frame, *, x_ticks: bool = True) -> Markup:
    bottom = HEIGHT - BOTTOM
    parts = []
    for value in ticks(*frame.x) if x_ticks else ():
        x, _ = frame.at(value, frame.y[0])
        parts.append(_text(x, bottom + 12, short_number(value), "middle"))
    parts.append(
        Markup('<path class="axis" d="M{} {}H{}"/>').format(
            frame.left, bottom, WIDTH - RIGHT
        )
    )
    return Markup("").join(parts)


def _draw(frame: _Frame, line: Line) -> Markup:
    places = [frame.at(*point) for point in line.points]
    path = "L".join(f"{x} {y}" for x, y in places)
    drawn = Markup('<path class="line {}" d="M{}"/>').format(line.look, path)
    if line.has_dots:
        for x, y in places:
            drawn += Markup('<circle class="dot {}" cx="{}" cy="{}" r="2.6"/>').format(
                line.look, x, y
            )
    return drawn


def _draw_mark(frame: _Frame, mark: Mark) -> Markup:
    x, y = frame.at(mark.x, frame.y[1] if mark.y is None else mark.y)
    side = "end" if x > (WIDTH + LEFT) / 2 else "start"
    beside = x - 6 if side == "end" else x + 6
    if mark.y is None:
        line = Markup('<path class="mark" d="M{} {}V{}"/>').format(
            x, TOP, HEIGHT - BOTTOM
        )
        return line + _text(beside, HEIGHT - BOTTOM - 5, mark.text, side, "marked")
    dot = Markup('<circle class="marked" cx="{}" cy="{}" r="4.5"/>').format(x, y)
    return dot + _text(beside, y + 14, mark.text, side, "marked")


def _legend(lines: Sequence[Line]) -> Markup:
    """Name the lines below the plot, in columns."""
    parts = []
    for number, line in enumerate(lines):
        row, column = divmod(number, LEGEND_COLUMNS)
        x, y = LEFT + 140 * column, HEIGHT + 8 + LEGEND_STEP * row
        if line.look.startswith("b"):
            parts.append(
                Markup('<rect class="{}" x="{}" y="{}" width="12" height="8"/>').format(
                    line.look, x, y - 7
                )
            )
        else:
            parts.append(
                Markup('<path class="line {}" d="M{} {}h14"/>').format(
                    line.look, x, y - 3
                )
            )
        parts.append(_text(x + 18, y, line.name, "start"))
    return Markup("").join(parts)


def _text(x: float, y: float, text: str, anchor: str, look: str = "") -> Markup:
    known = Markup(' class="{}"').format(look) if look else Markup("")
    return Markup('<text{} x="{}" y="{}" text-anchor="{}">{}</text>').format(
        known, round(x, 1), round(y, 1), anchor, text
    )


def _svg(title: str, description: str, body: Markup, num_named: int = 0) -> Markup:
    """Frame a chart, with room below for the names of its lines."""
    height = HEIGHT + LEGEND_STEP * -(-num_named // LEGEND_COLUMNS)
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<text class="title" x="4" y="14">{}</text>{}</svg>'
    ).format(WIDTH, height, description, title, body)


def short_number(value: float) -> str:
    """Write a tick: 20000 as 20k."""
    if abs(value) >= 1e9:
        return f"{value / 1e9:g}G"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:g}"
