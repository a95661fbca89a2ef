"""Whatever a document tells its reader to type or to write is known and right.

Commands of Snakemake and Python are run by ``tests/workflow/test_documented.py``.
"""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.documents import (
    CONFIG_README,
    FIRST_WORDS,
    README,
    ROOT,
    blocks,
    commands,
    kind_of,
    named_commands,
)
from unetpipe.config import check_config
from unetpipe.config.sheet import parse_sheet

COMMANDS = sorted(
    {
        (document.relative_to(ROOT).as_posix(), command)
        for document in (README, CONFIG_README)
        for command in (*commands(document), *named_commands(document))
    }
)
BLOCKS = [
    (kind_of(block), block)
    for document in (README, CONFIG_README)
    for block in blocks(document)
]


def check_make(command: str) -> None:
    """Let make say what it would do."""
    words = shlex.split(command)
    done = subprocess.run(
        [*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def check_pip(command: str) -> None:
    """Look whether the project has what is to be installed."""
    if command == "pip install":  # of whatever the sentence goes on to say
        return
    if command == "pip install .":  # tests/runtime/test_deploy.py installs the wheel
        return
    own = r'pip install (?:-e "\.\[([\w,]+)\]"|unetpipe\[([\w,]+)\])'
    match = re.fullmatch(own, command)
    assert match, f"{command!r} installs something else than extras of the project"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = (match[1] or match[2]).split(",")
    assert set(wanted) <= set(project["optional-dependencies"])


def exactly(*known: str) -> Callable[[str], None]:
    """Return a check of commands that cannot be run in a test."""

    def check(command: str) -> None:
        assert command in known

    return check


def run_elsewhere(command: str) -> None:
    """Pass: a test of the workflow runs it."""


CHECKS: dict[str, Callable[[str], None]] = {
    "snakemake": run_elsewhere,
    "python": run_elsewhere,
    "make": check_make,
    "pip": check_pip,
    "source": exactly("source .venv/bin/activate"),
    "sudo": exactly("sudo apt install git make python3-venv"),
    # `tests/viewer` opens stores in napari.
    "napari": exactly(
        "napari <image.ome.zarr> <probability.ome.zarr> <segmentation.ome.zarr>"
    ),
}


@pytest.mark.parametrize(("document", "command"), COMMANDS)
def test_every_command_is_known_and_would_work(document: str, command: str) -> None:
    first = command.split()[0]
    assert first in CHECKS, f"{document} says {command!r}: add how to test {first}"
    CHECKS[first](command)


def test_there_are_commands_to_check() -> None:
    assert {"make demo", "snakemake --configfile config/mine.yaml"} <= {
        command for _, command in COMMANDS
    }
    assert {kind for kind, _ in BLOCKS} >= {"commands", "sheet", "configuration"}


@pytest.mark.parametrize("block", [b for kind, b in BLOCKS if kind == "commands"])
def test_a_block_of_commands_holds_nothing_else(block: str) -> None:
    for line in block.splitlines():
        assert line.split()[0] in FIRST_WORDS


@pytest.mark.parametrize("block", [b for kind, b in BLOCKS if kind == "sheet"])
def test_every_sheet_that_is_shown_is_read(block: str) -> None:
    assert parse_sheet(block).rows


@pytest.mark.parametrize("block", [b for kind, b in BLOCKS if kind == "configuration"])
def test_every_piece_of_configuration_that_is_shown_is_valid(block: str) -> None:
    values = yaml.safe_load(block)
    if values is None:  # a comment for editors, which names the schema
        (schema,) = re.findall(r"\$schema=(\S+)", block)
        assert (ROOT / "config" / schema).exists()
        return
    values = values.get("unetpipe", values)  # of another workflow that uses this one
    classes = len(values.get("labels", {}).get("palette") or "12") - 1
    check_config({"network": {"num_classes": max(2, classes)}, **values})


def test_every_piece_of_code_that_is_shown_is_run_by_a_test_that_reads_it() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    # A test reads a block by its beginning: shown("import json\\nimport pyarrow").
    beginnings = [
        text.replace("\\n", "\n")
        for text in re.findall(r'\w\("((?:import|from) [^"]+)"\)', tests)
    ]
    shown = [block for kind, block in BLOCKS if kind == "code"]
    assert [b for b in shown if not b.startswith(tuple(beginnings))] == []


def test_blocks_are_found_in_lists_and_between_fences(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Text\n    that goes on.\n\n1. Do\n\n       make a    # why\n       make b\n\n"
        "   with `make c`.\n\n```\nmake d\n```\n\n    volume\timage\n    a\tb\n"
    )
    assert [kind_of(block) for block in blocks(page)] == ["commands"] * 2 + ["sheet"]
    assert commands(page) == ["make a", "make b", "make d"]
    assert named_commands(page) == ["make c"]
