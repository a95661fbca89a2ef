"""Keys that a YAML file gives twice: readers of YAML keep the last and say nothing."""

from collections.abc import Iterator

import yaml

MERGE = "tag:yaml.org,2002:merge"  # `<<` may stand several times


def repeated_keys(text: str) -> list[str]:
    r"""Return one line for each key that stands twice in the same section.

    Text that is no YAML has none: whoever reads it says so.

    Examples
    --------
    >>> repeated_keys("steps: 1\nseed: 2\nsteps: 3\n")
    ['steps: on line 1 and again on line 3, and only the last would count; keep one']
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return []
    return [
        f"{name}: on line {first} and again on line {again}, and only the last would "
        "count; " + ("put all its keys below one" if is_section else "keep one")
        for name, first, again, is_section in _repeats(root)
    ]


def _repeats(root: yaml.Node | None) -> Iterator[tuple[str, int, int, bool]]:
    """Give name, first line, later line, and whether keys stand below it."""
    waiting: list[tuple[yaml.Node | None, str]] = [(root, "")]
    seen: set[int] = set()  # aliases make a node a child of several, or of itself
    while waiting:
        node, place = waiting.pop(0)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, place) for item in node.value]
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            name = f"{place}{key.value}"
            waiting.append((value, f"{name}."))
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            if name in lines:
                yield name, lines[name], line, isinstance(value, yaml.MappingNode)
            lines.setdefault(name, line)
