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


def killed_run(project: Project, seconds: float) -> bool:
    """Start the chain, kill all its processes so long after; was it still running?"""
    run = subprocess.Popen(
        project.command("--quiet", "all"),
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(run.pid, signal.SIGKILL)
    return run.wait() == -signal.SIGKILL


def test_a_chain_interrupted_20_times_gives_the_bits_of_one_that_never_was(tmp_path):
    undisturbed = Project(tmp_path / "undisturbed")
    began = time.monotonic()
    undisturbed.snakemake()
    longest = time.monotonic() - began
    disturbed, rng = Project(tmp_path / "disturbed"), random.Random(20)
    hits = [killed_run(disturbed, rng.uniform(0, longest / 5)) for _ in range(20)]
    assert sum(hits) >= 15
    disturbed.snakemake()
    assert "Nothing to be done" in disturbed.snakemake().stderr
    assert shard_hashes(disturbed) == shard_hashes(undisturbed)
    one, two = (
        read_record(project.folder / "results/tiny/unet/model.json")
        for project in (disturbed, undisturbed)
    )
    assert one == two
