"""The commands of the documents, as a reader types them: long ones as a dry run."""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from tests.documents import (
    CONFIG_README,
    README,
    blocks,
    commands,
    kind_of,
    named_commands,
)
from tests.workflow.conftest import Project
from unetpipe.config.sheet import load_sheet

TYPED = sorted(
    {
        command
        for document in (README, CONFIG_README)
        for command in (*commands(document), *named_commands(document))
    }
)
# Tested elsewhere: reports of a finished run, and a profile that needs a plugin.
ELSEWHERE = ("--report", "--workflow-profile")
# Nothing to dry-run: it only removes a lock; targets of another workflow; what needs an
# image, and without one is refused (`test_environments.py`).
NOT_HERE = re.compile(r"--unlock|\bunetpipe_|method apptainer")
DRY = ("-n", "--dry-run")
# `tests/test_deploy.py` lays a wheel's workflow out.
DEPLOY = "python -m unetpipe.deploy FOLDER"
# `tests/stages/test_propose_annotations.py` goes on from corrections.
CORRECT = (
    "python scripts/make_sheet.py --corrections results/mine/proposals --name next"
)
PYTHON = {
    c.replace("/data/brain", "FOLDER") for c in TYPED if c.startswith("python ")
} - {DEPLOY, CORRECT}


def asked() -> dict[tuple[str, ...], set[str]]:
    """Return what is asked of Snakemake: by options, all targets that go with them."""
    found: dict[tuple[str, ...], set[str]] = {}
    for command in TYPED:
        words = shlex.split(command.replace(" /scratch/", " scratch/"))
        if words[0] != "snakemake" or NOT_HERE.search(command):
            continue
        for option in ELSEWHERE:
            if option in words:
                at = words.index(option)
                del words[at : at + 2]
        words = [word for word in words[1:] if word not in DRY]
        is_target = [
            re.fullmatch("[a-z_]+", word) is not None and not before.startswith("--")
            for before, word in zip(["", *words], words, strict=False)
        ]
        pairs = list(zip(words, is_target, strict=True))
        options = tuple(word for word, target in pairs if not target)
        found.setdefault(options, set()).update(
            {word for word, target in pairs if target} or {"all"}
        )
    return found


def test_commands_are_found_with_their_targets():
    assert asked()[("--configfile", "config/mine.yaml")] >= {"all", "plan"}


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Project:
    """The project of somebody who has written the files that the document shows."""
    project = Project(tmp_path_factory.mktemp("reader") / "project")
    folder = project.folder / "config"
    shown = list(blocks(CONFIG_README))
    sheet = next(block for block in shown if kind_of(block) == "sheet")
    written = [b for b in shown if kind_of(b) == "configuration" and "source:" in b]
    (folder / "mine.tsv").write_text(sheet)
    values = yaml.safe_load(written[0]) | {"source": str(project.folder / "FOLDER")}
    (folder / "mine.yaml").write_text(yaml.safe_dump(values))
    for name in ("mine.tsv", "isbi2012.tsv"):
        touch_originals(folder / name, project.folder / "FOLDER")
    return project


def touch_originals(sheet: Path, folder: Path) -> None:
    """Make a folder that holds, by name, what a sheet asks for."""
    for row in load_sheet(sheet).rows:
        for cell in filter(None, (row.image, row.labels)):
            path = folder / cell.split("|")[0].replace("*", "0")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", sorted(asked()), ids=lambda o: " ".join(o) or "none"
)
def test_what_the_documents_ask_of_snakemake_would_run(
    reader: Project, options: tuple[str, ...]
) -> None:
    command = [*reader.command()[:3], *sorted(asked()[options]), *options]
    said = run(reader, [*command, "--dry-run", "--quiet", "rules"])
    for target in asked()[options]:
        assert re.search(rf"^{target} +\d+$", said, re.MULTILINE), target


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(PYTHON))
def test_what_the_documents_ask_of_python_does_what_they_say(
    fresh: Project, command: str
) -> None:
    """A stranger's folder becomes a sheet and a configuration that would run."""
    rng = np.random.default_rng(0)
    for kind, highest in (("images", 255), ("labels", 2)):
        (fresh.folder / "FOLDER" / kind).mkdir(parents=True)
        for number in range(5):
            pixels = rng.integers(0, highest, (64, 64)).astype(np.uint8)
            tifffile.imwrite(fresh.folder / f"FOLDER/{kind}/{number}.tif", pixels)
    run(fresh, shlex.split(command))
    done = fresh.snakemake("--dry-run", "--quiet", "rules", config="mine")
    assert "train_unet" in done.stdout


def run(project: Project, command: list[str]) -> str:
    """Run a command where the project lies; return what it printed."""
    done = subprocess.run(
        command,
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
