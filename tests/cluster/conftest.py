"""One loopback cluster for all tests of this folder, and a project that runs on it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cluster.loopback import Loopback, why_not
from tests.workflow.conftest import Project

# The shipped profile, but for a machine with few processors and no network disk.
ON_SLURM = (
    *("--workflow-profile", "workflow/profiles/slurm"),
    *("--set-threads", "train_unet=1", "probe_prediction=1", "predict_part=1"),
    *("--slurm-init-seconds-before-status-checks", "3"),
    *("--max-status-checks-per-second", "5", "--latency-wait", "20"),
)


class SlurmProject(Project):
    """A project whose Snakemake submits to the loopback cluster."""

    def on_slurm(self, *arguments: str, check: bool = True):
        return self.snakemake(*ON_SLURM, *arguments, check=check)

    def start_on_slurm(self, *arguments: str) -> "subprocess.Popen[str]":
        with (self.folder / "snakemake.log").open("w") as log:
            return subprocess.Popen(
                self.command(*ON_SLURM, *arguments),
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )


@pytest.fixture(scope="session")
def cluster() -> Iterator[Loopback]:
    if reason := why_not():
        pytest.skip(f"NO SLURM HERE, nothing of the cluster is tested: {reason}")
    with TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        loopback = Loopback(Path(folder))
        try:
            loopback.start()
            yield loopback
        finally:
            loopback.stop()


@pytest.fixture(scope="session")
def workstation(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose chain has run to its report without a cluster."""
    project = Project(tmp_path_factory.mktemp("workstation") / "project")
    project.edit("config/tiny.yaml", "parts: 2", "parts: 4")
    project.snakemake()
    return project


def shard_hashes(project: Project) -> dict[str, str]:
    """Return the sha256 of every file of the prediction and segmentation stores."""
    home = project.folder / "results/tiny/unet/cells"
    files = (p for p in home.rglob("*") if "/c/" in p.as_posix() and p.is_file())
    hashes = {}
    for path in sorted(files):
        done = subprocess.run(
            ["sha256sum", str(path)], capture_output=True, text=True, check=True
        )
        hashes[str(Path(path).relative_to(home))] = done.stdout.split()[0]
    return hashes
