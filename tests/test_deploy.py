"""What an installed package lays out in a folder is the whole workflow."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from unetpipe.deploy import PARTS, deploy
from unetpipe.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


def files_of(folder: Path) -> set[str]:
    """Return what lies in the folders that are laid out."""
    return {
        path.relative_to(folder).as_posix()
        for part in PARTS
        for path in (folder / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_folder_gets_all_files_and_nothing_is_overwritten(tmp_path: Path) -> None:
    assert deploy(tmp_path / "run") == [tmp_path / "run" / part for part in PARTS]
    assert files_of(tmp_path / "run") == files_of(ROOT)
    (tmp_path / "run/config/config.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"run/workflow, .*already there"):
        deploy(tmp_path / "run")
    assert (tmp_path / "run/config/config.yaml").read_text() == "mine"


@pytest.mark.slow
def test_an_installed_wheel_runs_without_the_clone(tmp_path: Path) -> None:
    clone, site = tmp_path / "clone", tmp_path / "site"
    deploy(clone)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (clone / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(["cp", "-r", str(ROOT / "unetpipe"), str(clone)], check=True)
    build = (
        "from setuptools.build_meta import build_sdist, build_wheel;"
        "build_sdist('dist'); print(build_wheel('dist'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", build],
        cwd=clone,
        capture_output=True,
        text=True,
        check=True,
    )
    (sdist,) = (clone / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert files_of(ROOT) <= packed
    wheel = clone / "dist" / done.stdout.split()[-1]
    with zipfile.ZipFile(wheel) as archive:
        assert {"unetpipe/py.typed"} <= set(archive.namelist())
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index"]
    subprocess.run([*command, "--quiet", "--target", str(site), str(wheel)], check=True)
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "unetpipe.deploy", str(tmp_path / "run")]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert files_of(tmp_path / "run") == files_of(ROOT)
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules"]
    planned = subprocess.run(
        command,
        cwd=tmp_path / "run",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert planned.returncode == 0, planned.stderr
    assert "report_run" in planned.stdout
