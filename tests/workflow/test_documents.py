"""Documents say what is so: links lead somewhere, commands exist."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), ROOT / "config" / "README.md"]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"")
TARGET = re.compile(r"^([a-z-]+):.*##", flags=re.MULTILINE)
MAKE = re.compile(r"(?:`|^ {4}|\$ |&& )make +(?:[A-Z]+=\S+ +)*([a-z][a-z-]*)", re.M)
CONFIG_FILE = re.compile(r"config/[a-z0-9_-]+\.(?:yaml|tsv|json)")

by_name = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def anchors(document: Path) -> set[str]:
    """Return the anchors that headings make, as code hosts spell them."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        for title in titles
    }


@by_name
def test_links_inside_the_project_lead_somewhere(document: Path) -> None:
    dead = []
    for groups in LINK.findall(document.read_text()):
        link = groups[0] or groups[1]
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


@by_name
def test_every_make_command_exists(document: Path) -> None:
    known = set(TARGET.findall((ROOT / "Makefile").read_text()))
    assert set(MAKE.findall(document.read_text())) <= known


@by_name
def test_every_configuration_that_is_named_exists(document: Path) -> None:
    yours = {"config/mine.yaml", "config/mine.tsv"}  # the reader's own
    named = set(CONFIG_FILE.findall(document.read_text())) - yours
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_check_for_commands_finds_commands() -> None:
    assert MAKE.findall("run `make demo`, or\n    make venv TORCH=cuda\n") == [
        "demo",
        "venv",
    ]


def test_make_lists_every_target_that_it_has() -> None:
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)
    assert set(TARGET.findall(text)) == set(phony.split())


def test_pictures_load_in_a_moment() -> None:
    pictures = [*ROOT.glob("tests/figures/*.png")]
    assert [p.name for p in pictures if p.stat().st_size > 150_000] == []
    named = "".join(document.read_text() for document in DOCUMENTS)
    assert [p.name for p in pictures if p.name not in named] == []


def test_make_help_is_a_table_whose_columns_stand_in_line() -> None:
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(TARGET.findall((ROOT / "Makefile").read_text()))
    starts = {re.match(r"  make [a-z0-9-]+ +", line).end() for line in lines}
    assert len(starts) == 1


def test_every_way_to_install_takes_a_python_that_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    files = ("workflow/envs/unetpipe.yaml", "workflow/envs/unetpipe.def", "Dockerfile")
    for name in files:
        (version,) = re.findall(
            r"^ +- python =([\d.]+)$|^(?:From|FROM):? python:([\d.]+)",
            (ROOT / name).read_text(),
            re.MULTILINE,
        )
        assert "".join(version) in SpecifierSet(project["requires-python"]), name
