"""Compiled loops where neither the installation nor the home can be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unetpipe.runtime import compiled
from unetpipe.runtime.compiled import PLACE, place_compiled

REPOSITORY = Path(__file__).resolve().parents[2]
ASK = "import {}, {}; from numba import config; print(config.CACHE_DIR)"
LOOPS = "unetpipe.metrics.labelling"


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An installation that keeps nothing, also for root; return an environment."""
    (tmp_path / "closed").touch()
    monkeypatch.setattr(compiled, "_HERE", tmp_path / "closed")
    monkeypatch.delitem(sys.modules, "numba.core.config", raising=False)
    monkeypatch.setattr(compiled.tempfile, "tempdir", str(tmp_path))
    return {"HOME": str(tmp_path / "closed")}


@pytest.mark.parametrize("modules", [(LOOPS, "numba"), ("numba", LOOPS)])
def test_a_read_only_installation_without_a_home_compiles(tmp_path, modules) -> None:
    package = tmp_path / "unetpipe"
    shutil.copytree(
        REPOSITORY / "unetpipe", package, ignore=shutil.ignore_patterns("__pycache__")
    )
    for room in (package, *(p for p in package.iterdir() if p.is_dir())):
        (room / "__pycache__").touch()  # no folder can be made there, by root neither
    taken = ("XDG_CACHE_HOME", PLACE)
    environment = {k: v for k, v in os.environ.items() if k not in taken}
    environment |= {"HOME": "/dev/null", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(*modules)],
        env=environment | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{tmp_path}/unetpipe-compiled-{os.getuid()}"


@pytest.mark.parametrize("name", ["HOME", "XDG_CACHE_HOME"])
def test_a_home_or_a_cache_that_takes_files_is_left_alone(closed, tmp_path, name):
    closed[name] = str(tmp_path)
    place_compiled(closed)
    assert PLACE not in closed


def test_what_the_user_says_counts(closed) -> None:
    closed[PLACE] = "/mine"
    place_compiled(closed)
    assert closed[PLACE] == "/mine"


@pytest.mark.parametrize("kind", ["open to others", "a link"])
def test_compiled_code_of_others_is_not_taken(closed, tmp_path, kind) -> None:
    folder = tmp_path / f"unetpipe-compiled-{os.getuid()}"
    (tmp_path / "theirs").mkdir()
    if kind == "a link":
        folder.symlink_to(tmp_path / "theirs")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    place_compiled(closed)
    assert Path(closed[PLACE]).parent == tmp_path
    assert closed[PLACE] != str(folder)
    assert Path(closed[PLACE]).stat().st_mode & 0o077 == 0
