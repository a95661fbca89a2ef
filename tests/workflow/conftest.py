"""A copy of the project that runs the whole chain in seconds."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

TINY = """
name: tiny
source: phantom:cells
volumes: config/tiny.tsv
phantom: {shape: [4, 64, 64], num_cells: 12}
network: {base_channels: 2, depth: 2}
training: {steps: 6, validate_every: 3, checkpoint_every: 2, threads: 1,
           patch: [1, 60, 60], precision: fp32}
prediction: {parts: 2, threads: 1, stride: [1, 32, 32]}
"""
HEADER = (
    "volume\timage\tlabels\tsections\trole\tfold\taxes\tvoxel_size_nm\t"
    "label_kind\tunlabelled\n"
)
ROWS = [
    f"cells\tphantom/image.tif\tphantom/labels.tif\t{sections}\t{role}\t\tzyx\t50,4,4\t"
    "instances\tnone\n"
    for sections, role in (("0-1", "train"), ("2", "validate"), ("3", "test"))
]


class Project:
    """The project's files in a folder of their own, and Snakemake to run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("workflow", "scripts", "config", "unetpipe"):
            shutil.copytree(
                REPOSITORY / name,
                folder / name,
                dirs_exist_ok=True,
                # With what numba has compiled, but not what is just being written.
                ignore=shutil.ignore_patterns("*.tmp.*", "*.pyc.*"),
            )
        (folder / "config" / "tiny.yaml").write_text(TINY)
        (folder / "config" / "tiny.tsv").write_text(HEADER + "".join(ROWS))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {
            "PYTHONPATH": str(folder),
            "OMP_NUM_THREADS": "1",
            "PATH": path,
        }
        # A chain has twenty processes, all of the same modules.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def command(self, *arguments: str, config: str = "tiny") -> list[str]:
        return [
            *(sys.executable, "-m", "snakemake"),
            *("--configfile", f"config/{config}.yaml"),
            *arguments,
        ]

    def snakemake(self, *arguments: str, config: str = "tiny", check: bool = True):
        done = subprocess.run(
            self.command(*arguments, config=config),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def planned(self, *arguments: str, config: str = "tiny") -> dict[str, int]:
        """Return which rules a run would execute, and how often."""
        done = self.snakemake(
            "--dry-run", *arguments, "--quiet", "rules", config=config
        )
        return {
            rule: int(count)
            for rule, count in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE)
            if rule not in ("total", "all")
        }

    def edit(self, module: str, old: str, new: str) -> str:
        """Replace text in a file of the project; return what it was."""
        path = self.folder / module
        before = path.read_text()
        assert before.count(old) >= 1, f"{old!r} is not in {module}"
        path.write_text(before.replace(old, new, 1))
        return before


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A project whose chain has run to its report, once for all workers."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    first = shared / "finished"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "finished.txt").exists():
            shutil.rmtree(first, ignore_errors=True)
            output = Project(first).snakemake().stdout
            (shared / "finished.txt").write_text(output)
    shutil.copytree(first, base / "project")
    project = Project(base / "project")
    project.output = (shared / "finished.txt").read_text()
    return project


@pytest.fixture
def fresh(tmp_path) -> Project:
    """A project that has not run yet."""
    return Project(tmp_path / "project")
