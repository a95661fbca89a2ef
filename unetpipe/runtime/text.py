"""Tables and quantities for people who read them in a terminal."""

from collections.abc import Sequence
from math import isinf

PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines with aligned columns; the last column is not filled up.

    Examples
    --------
    >>> print(format_table(("a", "b"), [("long", "1"), ("x", "22")]))
    a     b
    long  1
    x     22
    """
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def describe_quantity(value: float, unit: str, *, base: int = 1000) -> str:
    """Return a number of three digits with the prefix that suits it.

    Examples
    --------
    >>> describe_quantity(1.234e13, "FLOP"), describe_quantity(2**31, "iB", base=1024)
    ('12.3 TFLOP', '2 GiB')
    >>> describe_quantity(1020 << 20, "iB", base=1024)
    '0.996 GiB'
    """
    size, prefix = float(value), 0
    while size >= 999.5 and prefix + 1 < len(PREFIXES):  # three digits, rounded
        size, prefix = size / base, prefix + 1
    if base == 1024 and not prefix:
        return f"{size:.0f} B"
    return f"{size:.3g} {PREFIXES[prefix]}{unit}".rstrip()


def describe_seconds(seconds: float | None) -> str:
    """Return a length of time as people say it; nothing if nobody knows it.

    Examples
    --------
    >>> describe_seconds(0.42), describe_seconds(75), describe_seconds(8000)
    ('0.42 s', '1 min 15 s', '2 h 13 min')
    """
    if seconds is None:
        return ""
    if isinf(seconds):
        return "unknown time"
    if seconds < 60:
        return f"{seconds:.2f} s" if 0 < seconds < 0.1 else f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count_in_words(number: float) -> str:
    """Return a count as one would say it.

    Examples
    --------
    >>> count_in_words(31030658), count_in_words(485682), count_in_words(898)
    ('31 million', '486 thousand', '898')
    """
    for limit, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= limit:
            return f"{number / limit:.3g} {word}"
    return f"{number / 1e3:.3g} thousand" if number >= 1e4 else f"{number:,.0f}"


def count_noun(number: int, noun: str) -> str:
    """Return ``1 section``, ``3 sections``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_percent(part: float, whole: float) -> str:
    """Return a share; what is rare is never said to be nothing.

    Examples
    --------
    >>> format_percent(34, 100), format_percent(3, 1000), format_percent(1, 30000)
    ('34%', '0.3%', '0.003%')
    """
    share = part / whole if whole else 0.0
    return f"{100 * share:.1g}%" if 0 < share < 0.01 else f"{share:.0%}"


def format_sections(numbers: Sequence[int]) -> str:
    """Return section numbers as ranges.

    Examples
    --------
    >>> format_sections([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in ranges)
