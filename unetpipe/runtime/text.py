"""Tables and quantities for people who read them in a terminal."""

from collections.abc import Sequence

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
