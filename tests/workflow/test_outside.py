"""The workflow as another one uses it, and as it runs in another folder.

The other workflow is the one that ``config/README.md`` shows, word for word.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.documents import CONFIG_README, blocks
from tests.workflow.conftest import TINY, Project
from unetpipe.runtime.files import read_record
from unetpipe.storage.volumes import open_volume
from unetpipe.targets.weight_map import separate_touching


def shown(first: str) -> str:
    """Return the block of the document that begins so."""
    (block,) = (b for b in blocks(CONFIG_README) if b.startswith(first))
    return block + "\n"


class Other(Project):
    """A workflow of somebody else that counts the cells that ours found."""

    def __init__(self, folder: Path, project: Path) -> None:
        (folder / "workflow").mkdir(parents=True)
        (folder.parent / "unetpipe").symlink_to(project)
        self.folder = folder
        snakefile = shown("import json\nimport pyarrow")
        (folder / "workflow/Snakefile").write_text(snakefile)
        shutil.copytree(project / "workflow/profiles", folder / "workflow/profiles")
        (folder / "config").mkdir()
        shutil.copy(project / "config/tiny.tsv", folder / "config/tiny.tsv")
        settings = yaml.safe_load(shown("volumes: [cells]"))
        settings["unetpipe"] = yaml.safe_load(TINY)
        (folder / "config/config.yaml").write_text(yaml.safe_dump(settings))
        self.environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def command(self, *arguments: str, config: str = "") -> list[str]:
        with_config = super().command(*arguments, config=config)
        start = with_config.index("--configfile")
        return with_config[:start] + with_config[start + 2 :]


@pytest.fixture
def other(tmp_path, finished) -> Other:
    """The other workflow, where ours has run by itself before."""
    other = Other(tmp_path / "other", finished.folder)
    other.environment = finished.environment
    for name in ("results", "resources", ".snakemake"):
        shutil.copytree(finished.folder / name, other.folder / name, symlinks=True)
    return other


@pytest.mark.slow
def test_another_workflow_finds_results_up_to_date_and_uses_them(other):
    assert other.planned() == {"count_cells": 1}


@pytest.mark.slow
def test_another_workflow_goes_on_from_results_and_uses_them(other):
    (other.folder / "results/tiny/unet/cells/segmentation.json").unlink()
    said = other.snakemake().stdout
    assert other.planned() == {}
    (line,) = (other.folder / "results/cells.tsv").read_text().splitlines()
    volume, count = line.split("\t")
    assert volume == "cells"
    table = next(other.folder.glob("results/tiny/unet/cells/segmentation-*/*.csv"))
    assert int(count) == len(table.read_text().splitlines()) - 1
    assert "napari results/tiny/volumes/cells/image.ome.zarr" in said


@pytest.mark.slow
def test_another_workflow_has_all_rules_by_their_own_names(other):
    assert other.planned("unetpipe_all") == {}
    other.snakemake("unetpipe_status")
    said = other.snakemake("unetpipe_plan").stdout
    assert "predicting: 0 " in said  # all of it is there


@pytest.mark.slow
def test_the_lock_of_another_workflow_is_not_ours_to_remove(other):
    """Also where an earlier run of ours, by itself, left the note of its death."""
    lock = other.folder / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text("results/cells.tsv\n")
    note = {"pid": 2**22, "host": socket.gethostname(), "created": 0, "started": "then"}
    (other.folder / ".snakemake/unetpipe_run.json").write_text(json.dumps(note))
    done = other.snakemake(check=False)
    assert done.returncode != 0
    assert lock.exists()
    assert "Directory cannot be locked" in done.stderr


@pytest.fixture
def released(tmp_path, fresh) -> Other:
    """Another workflow that takes ours from a repository on the web, to a prefix."""
    hub = tmp_path / "hub"
    repository = hub / "OWNER/unetpipe"
    shutil.copytree(fresh.folder, repository)
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for command in ("init -q", "add .", "commit -qm All", "tag v0.1.0"):
        subprocess.run([*git, *command.split()], cwd=repository, check=True)
    other = Other(tmp_path / "other", fresh.folder)
    (release,) = re.findall(r"`(github\(.+?\))`", CONFIG_README.read_text())
    prefix = '        config["unetpipe"]\n    prefix:\n        "seg"\n'
    other.edit("workflow/Snakefile", '"../../unetpipe/workflow/Snakefile"', release)
    other.edit("workflow/Snakefile", '        config["unetpipe"]\n', prefix)
    other.environment = fresh.environment | {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        # What is asked of the web is answered by a folder.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{hub}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }
    return other


@pytest.mark.slow
def test_a_release_from_the_web_is_used_with_a_prefix(released):
    planned = released.planned("unetpipe_all")
    assert planned["unetpipe_predict_part"] == 2
    assert planned["unetpipe_report_run"] == 1


@pytest.mark.slow
def test_a_release_writes_everything_below_its_prefix_and_then_rests(released):
    released.snakemake("unetpipe_all", "results/cells.tsv")
    assert released.planned("unetpipe_all", "results/cells.tsv") == {}
    released.snakemake("unetpipe_verify")
    folders = {path.name for path in released.folder.iterdir()}
    assert folders == {".snakemake", "config", "results", "seg", "workflow"}
    assert [p.name for p in (released.folder / "results").iterdir()] == ["cells.tsv"]
    assert (released.folder / "seg/results/tiny/report.html").exists()


@pytest.mark.slow
def test_another_folder_has_the_results_and_the_project_the_sheet(fresh, tmp_path):
    """What is said to be typed next works from anywhere."""
    away = tmp_path / "away"
    away.mkdir()
    target = "resources/tiny/manifest.json"
    fresh.snakemake("--directory", str(away), target)
    assert (away / target).exists()
    assert not (fresh.folder / "resources").exists()
    away_from_tiny = ("source=https://example.org/a.zip", "name=next")
    given = ("--config", *away_from_tiny, "network={depth: 3}")
    said = fresh.snakemake("--directory", str(away), "plan", *given).stdout
    (command,) = re.findall(r"not here yet: (.+)", said)
    words = shlex.split(command)
    assert words[0] == "snakemake"
    assert """'network={"depth": "3"}'""" in command
    done = subprocess.run(
        [*fresh.command()[:3], "--dry-run", "--quiet", "rules", *words[1:]],
        cwd=tmp_path,
        env=fresh.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    rules = set(re.findall(r"^(\w+) +1$", done.stdout, re.M))
    assert rules == {"download_dataset", "total"}


@pytest.mark.slow
def test_the_demo_can_be_planned_from_any_folder(fresh, tmp_path):
    snakefile = str(fresh.folder / "workflow/Snakefile")
    done = subprocess.run(
        [
            *fresh.command()[:3],
            "--snakefile",
            snakefile,
            "--dry-run",
            "--quiet",
            "rules",
        ],
        cwd=tmp_path,
        env=fresh.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "train_unet" in done.stdout


@pytest.mark.chain
def test_a_notebook_predicts_scores_and_weighs_as_the_document_shows(
    finished, monkeypatch
):
    monkeypatch.chdir(finished.folder)
    code = shown("from pathlib import Path\n\nfrom unetpipe")
    code = code.replace("results/mine", "results/tiny").replace("cortex", "cells")
    made = {}
    exec(compile(code, "notebook", "exec"), made)
    record = read_record(Path("results/tiny/unet/cells/prediction.json"))
    stored = open_volume(Path(record["outputs"]["probability"]["store"]))[...]
    probe = read_record(Path("results/tiny/unet/cells/probe.json"))
    again, _ = made["network"].predict(made["image"], stride=tuple(probe["stride"]))
    assert np.array_equal(again, stored)
    assert np.ptp(stored) > 10, "a constant would agree with anything"
    difference = np.abs(stored.astype(int) - made["probability"].astype(int))
    assert difference.max() <= 1, "other tiles round otherwise, at most"
    exec(compile(shown("from unetpipe import open_image"), "notebook", "exec"), made)
    difference = made["seen"].astype(int) - stored[0, 0, :64, :64]
    assert np.abs(difference).max() <= 1, "lazily, too"
    model = read_record(Path("results/tiny/unet/model.json"))
    assert made["network"].threshold == model["thresholds"]["segmentation"]
    assert made["found"].shape == made["objects"].shape == made["labels"].shape
    assert 0 <= made["f1"] <= 1
    assert 0 < made["rand"] <= 1
    with_weight = made["border"] > 0
    assert with_weight.any()
    assert not (with_weight & (separate_touching(made["labels"][0]) > 0)).any()
