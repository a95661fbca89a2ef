"""The whole workflow, killed again and again: one command finishes it, bit for bit."""

import os
import random
import signal
import subprocess
import time

import pytest

from tests.cluster.conftest import shard_hashes
from tests.workflow.conftest import Project
from unetpipe.runtime.files import read_record

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(3000)]


def num_files(project: Project) -> int:
    return sum(len(files) for _, _, files in os.walk(project.folder))


def killed_run(project: Project, num_new: int) -> bool:
    """Start the chain, kill all of it after so many new files; was it still running?"""
    enough = num_files(project) + num_new
    run = subprocess.Popen(
        project.command("--quiet", "all"),
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while run.poll() is None and num_files(project) < enough:
        time.sleep(0.01)
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
    return run.wait() == -signal.SIGKILL


def test_a_chain_interrupted_20_times_gives_the_bits_of_one_that_never_was(tmp_path):
    undisturbed = Project(tmp_path / "undisturbed")
    before = num_files(undisturbed)
    undisturbed.snakemake()
    made = num_files(undisturbed) - before
    disturbed, rng = Project(tmp_path / "disturbed"), random.Random(20)
    hits = [killed_run(disturbed, rng.randint(1, made // 20)) for _ in range(20)]
    assert sum(hits) >= 15
    disturbed.snakemake()
    assert "Nothing to be done" in disturbed.snakemake().stderr
    assert shard_hashes(disturbed) == shard_hashes(undisturbed)
    one, two = (
        read_record(project.folder / "results/tiny/unet/model.json")
        for project in (disturbed, undisturbed)
    )
    assert one == two
