"""Faults of a cluster, injected into prediction jobs that are at work."""

import shutil
import signal
import subprocess
import time

import pytest

from tests.cluster.conftest import SlurmProject, shard_hashes

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1200)]

# The first attempt is slow after each block, or hogs memory; the next ones are not.
SLOW = """
class _Slow(threading.Event):
    is_first = None

    def is_set(self) -> bool:
        import os, time
        from pathlib import Path
        mark = Path(os.environ["FIRST_ATTEMPT"])
        if self.is_first is None:
            self.is_first = not mark.exists()
            mark.touch()
        if self.is_first and "HOG" in os.environ:
            hog = bytearray(b"x") * (3 << 30)
        if self.is_first:
            time.sleep(float(os.environ["SECONDS_A_BLOCK"]))
        return super().is_set()


@contextmanager
def told_to_stop("""


@pytest.fixture
def project(cluster, workstation, tmp_path):
    """A trained network and no prediction; four slow blocks to predict in one job."""
    folder = tmp_path / "project"
    project = SlurmProject(folder)
    for name in ("results", "resources", ".snakemake"):
        shutil.copytree(workstation.folder / name, folder / name)
    project.edit("config/tiny.yaml", "parts: 2", "parts: 1")
    project.edit(
        "unetpipe/runtime/signals.py", "\n@contextmanager\ndef told_to_stop(", SLOW
    )
    project.edit(
        "unetpipe/runtime/signals.py", "stop = threading.Event()", "stop = _Slow()"
    )
    probe = folder / "results/tiny/unet/cells/probe.json"
    kept = probe.read_bytes()
    shutil.rmtree(probe.parent)
    probe.parent.mkdir()
    probe.write_bytes(kept)
    project.environment["SECONDS_A_BLOCK"] = "60"
    project.environment["FIRST_ATTEMPT"] = str(folder / "first_attempt")
    yield project
    project.end()
    for job in predicting(cluster, project):
        subprocess.run(["scancel", job["JobId"]], check=False, capture_output=True)


TARGET = "results/tiny/unet/cells/prediction.json"


def receipts(project):
    return list(project.folder.glob("results/tiny/unet/cells/prediction-*/receipts/*"))


def wait_for(is_so, run, seconds=600):
    end = time.monotonic() + seconds
    while not is_so():
        assert run.poll() is None, "Snakemake ended"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def predicting(cluster, project):
    """Return the prediction jobs of this project, oldest first."""
    return [
        job
        for _, job in sorted(cluster.jobs().items(), key=lambda item: int(item[0]))
        if job["WorkDir"] == str(project.folder)
        and "predict_part" in job.get("Comment", "")
    ]


def interrupted(cluster, project, *arguments):
    """Start a run; return it, and its job once this has written a receipt."""
    run = project.start_on_slurm(TARGET, *arguments)
    wait_for(lambda: receipts(project), run)
    (job,) = predicting(cluster, project)
    return run, job["JobId"]


def finish(cluster, project, workstation, run):
    """Wait for the end; compare the bits; return what became of the jobs."""
    assert run.wait(900) == 0, (project.folder / "snakemake.log").read_text()
    hashes = shard_hashes(project)
    expected = {k: v for k, v in shard_hashes(workstation).items() if k in hashes}
    assert hashes == expected
    assert hashes
    return [job["JobState"] for job in predicting(cluster, project)]


def kept(project):
    log = project.folder / "logs/tiny/predict_part/unet/cells/0.log"
    return log.read_text()


def test_scancel_of_a_job_is_a_retry_that_goes_on(cluster, project, workstation):
    run, job = interrupted(cluster, project)
    subprocess.run(["scancel", job], check=True)
    states = finish(cluster, project, workstation, run)
    assert states == ["CANCELLED", "COMPLETED"]
    assert "4 of 4 blocks" not in kept(project)


def test_a_warning_signal_finishes_the_block_and_the_retry_goes_on(
    cluster, project, workstation
):
    """What SLURM sends two minutes before the wall time is over."""
    project.environment["SECONDS_A_BLOCK"] = "10"
    run, job = interrupted(cluster, project)
    subprocess.run(["scancel", "--signal=TERM", job], check=True)
    wait_for(lambda: "told to stop" in kept(project), run)
    states = finish(cluster, project, workstation, run)
    assert states == ["FAILED", "COMPLETED"]
    assert "4 of 4 blocks" not in kept(project)


def test_a_job_out_of_time_is_a_retry_that_goes_on(cluster, project, workstation):
    """Without a warning, and although not one block fits into what is left."""
    project.environment["SECONDS_A_BLOCK"] = "400"
    no_warning = ("predict_part:slurm_partition=gpu", "predict_part:slurm_extra=''")
    run, job = interrupted(cluster, project, "--set-resources", *no_warning)
    limit = ["scontrol", "update", f"JobId={job}", "TimeLimit=1"]
    subprocess.run(limit, check=True)
    states = finish(cluster, project, workstation, run)
    assert states == ["TIMEOUT", "COMPLETED"]
    assert "4 of 4 blocks" not in kept(project)


def test_a_node_that_dies_is_replaced_by_another(cluster, project, workstation):
    run, job = interrupted(cluster, project)
    node = cluster.jobs()[job]["NodeList"]
    cluster.kill_node(node)
    try:
        wait_for(lambda: cluster.states()[node].startswith("down"), run)
        subprocess.run(
            ["scontrol", "update", f"JobId={job}", "StartTime=now"], check=False
        )
        states = finish(cluster, project, workstation, run)
    finally:
        cluster.start_node(node)
        cluster.wait_for(lambda: cluster.states()[node] == "idle", 60)
    assert states[-1] == "COMPLETED"
    assert predicting(cluster, project)[-1]["NodeList"] != node
    assert "4 of 4 blocks" not in kept(project)


def test_a_job_over_its_memory_is_a_retry_with_more(cluster, project, workstation):
    project.environment["HOG"] = "yes"
    run = project.start_on_slurm(TARGET)
    states = finish(cluster, project, workstation, run)
    assert len(states) == 2
    assert states[0] in ("FAILED", "OUT_OF_MEMORY", "CANCELLED")
    assert states[1] == "COMPLETED"
    first, second = (int(j["MinMemoryNode"][:-1]) for j in predicting(cluster, project))
    assert second == 2 * first


def test_a_killed_snakemake_names_the_jobs_to_end(cluster, project, workstation):
    run, job = interrupted(cluster, project)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    done = project.on_slurm(TARGET, check=False)
    assert done.returncode != 0
    assert f"End them with `scancel {job}`, then repeat the same command" in done.stderr
    subprocess.run(["scancel", job], check=True)
    cluster.wait_for(lambda: cluster.jobs()[job]["JobState"] == "CANCELLED", 60)
    again = project.start_on_slurm(TARGET)
    finish(cluster, project, workstation, again)
    assert "Its lock is removed" in (project.folder / "snakemake.log").read_text()
    assert "4 of 4 blocks" not in kept(project)
