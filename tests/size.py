"""How large the package is: ``python -m tests.size`` counts its lines of code by room.

Docstrings, comments and empty lines do not count.
"""

import ast
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "unetpipe"


def count_lines(source: str) -> int:
    """Return how many lines of a module hold code.

    >>> count_lines('"Say."\\n# why\\n\\ndef f():\\n    "Say."\\n    return 1\\n')
    2
    """
    told: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text and isinstance(node.value.value, str):
            told |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    lines = enumerate(map(str.strip, source.splitlines()), start=1)
    return sum(
        bool(line) and not line.startswith("#") and number not in told
        for number, line in lines
    )


def count_rooms(package: Path = PACKAGE) -> Counter[str]:
    """Return the lines of each room; loose modules are one."""
    rooms: Counter[str] = Counter()
    for path in package.rglob("*.py"):
        room, *inside = path.relative_to(package).parts
        rooms[room if inside else "(loose)"] += count_lines(path.read_text())
    return rooms


if __name__ == "__main__":
    found = count_rooms()
    for name, lines in sorted(found.items()):
        print(f"{name:14}{lines:7,}")
    print(f"{'all':14}{found.total():7,}")
