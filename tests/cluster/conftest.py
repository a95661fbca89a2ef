"""One loopback cluster for all tests of this folder, and a project that runs on it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.loopback import Loopback, running, why_not
from tests.workflow.conftest import Project

# The shipped profile, but for a machine with few processors and no network disk.
ON_SLURM = (
    *("--workflow-profile", "workflow/profiles/slurm"),
    *("--set-threads", "train_unet=1", "probe_prediction=1", "predict_part=1"),
    *("--slurm-init-seconds-before-status-checks", "3"),
    *("--max-status-checks-per-second", "5", "--latency-wait", "20"),
)


# The executor waits ten seconds longer after every look at the queue in which nothing
# has ended; a cluster of our own may be asked each second.
ASK_OFTEN = """
if workflow.is_main_process:
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    RemoteExecutor.next_seconds_between_status_checks = property(
        lambda executor: 1, lambda executor, seconds: None
    )
"""


class SlurmProject(Project):
    """A project whose Snakemake submits to the loopback cluster."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.started: list[subprocess.Popen[str]] = []
        with (folder / "workflow" / "Snakefile").open("a") as snakefile:
            snakefile.write(ASK_OFTEN)

    def on_slurm(self, *arguments: str, check: bool = True):
        return self.snakemake(*ON_SLURM, *arguments, check=check)

    def start_on_slurm(self, *arguments: str) -> "subprocess.Popen[str]":
        with (self.folder / "snakemake.log").open("w") as log:
            run = subprocess.Popen(
                self.command(*ON_SLURM, *arguments),
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.started.append(run)
        return run

    def end(self) -> None:
        """Kill what was started and has not ended: it would submit more jobs."""
        for run in self.started:
            run.kill()
            run.wait()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Loopback]:
    if reason := why_not():
        pytest.skip(f"NO SLURM HERE, nothing of the cluster is tested: {reason}")
    with running() as loopback:
        yield loopback


@pytest.fixture(scope="session")
def workstation(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose volume was segmented without a cluster."""
    project = Project(tmp_path_factory.mktemp("workstation") / "project")
    project.edit("config/tiny.yaml", "parts: 2", "parts: 3")
    project.snakemake("--", "results/tiny/unet/cells/segmentation.json")
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
