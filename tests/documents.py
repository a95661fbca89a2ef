"""What the documents tell their reader to type and to write, one by one."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README, CONFIG_README = ROOT / "README.md", ROOT / "config" / "README.md"
FIRST_WORDS = ("snakemake", "make", "python", "pip", "sudo", "source", "napari", "git")
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def blocks(document: Path) -> Iterator[str]:
    """Yield the indented and fenced blocks of a document, without their indent."""
    waiting: list[str] = []
    is_fenced, was_blank = False, True
    for line in [*document.read_text().splitlines(), "end"]:
        is_fence = line.lstrip().startswith("```")
        is_inside = re.match(r" {4,}\S", line) and (was_blank or waiting)
        if not is_fence and (is_fenced or is_inside or (waiting and not line.strip())):
            waiting.append(line)
        elif waiting:
            yield _without_indent(waiting)
            waiting = []
        is_fenced ^= is_fence
        was_blank = is_fence or not line.strip()


def _without_indent(lines: list[str]) -> str:
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[indent:] for line in lines).strip("\n")


def kind_of(block: str) -> str:
    """Return whether a block is commands, code, a sheet or part of a configuration."""
    first = block.split()[0]
    if first in FIRST_WORDS:
        return "commands"
    if first in ("import", "from"):
        return "code"
    if "\t" in block:
        return "sheet"
    return "configuration"


def commands(document: Path) -> list[str]:
    """Return the lines of the blocks of commands, without comments."""
    return [
        command
        for block in blocks(document)
        if kind_of(block) == "commands"
        for line in block.splitlines()
        if (command := re.sub(r"(^|\s+)#.*", "", line).strip())
    ]


def named_commands(document: Path) -> list[str]:
    """Return the commands that stand inside sentences, between backticks."""
    text = re.sub(r"\s+", " ", document.read_text())
    found = [code for code in INLINE.findall(text) if code.split()]
    return [code for code in found if code.split()[0] in FIRST_WORDS and " " in code]
