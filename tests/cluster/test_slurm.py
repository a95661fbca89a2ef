"""The same chain on a real SLURM: what ran where, and the same bits."""

import pytest

from tests.cluster.conftest import SlurmProject, shard_hashes
from tests.cluster.loopback import Loopback

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

ON_GPU = {"train_unet", "probe_prediction", "predict_part"}
ON_CPU = {
    "ingest_volume",
    "compute_weight_map",
    "finish_prediction",
    "finish_segmentation",
    "evaluate_prediction",
}


@pytest.fixture(scope="module")
def ran(cluster, tmp_path_factory) -> SlurmProject:
    project = SlurmProject(tmp_path_factory.mktemp("chain") / "project")
    project.edit("config/tiny.yaml", "parts: 2", "parts: 3")
    project.on_slurm()
    project.jobs = {
        job["Comment"]: job
        for job in cluster.jobs().values()
        if job["WorkDir"] == str(project.folder)
    }
    return project


def rule_of(comment: str) -> str:
    return comment.removeprefix("rule_").partition("_wildcards_")[0]


def test_every_job_ran_once_on_the_partition_of_its_rule(ran):
    rules = [rule_of(comment) for comment in ran.jobs]
    assert set(rules) >= ON_GPU | ON_CPU
    assert rules.count("predict_part") == 3
    for comment, job in ran.jobs.items():
        assert job["JobState"] == "COMPLETED"
        is_gpu = rule_of(comment) in ON_GPU
        assert job["Partition"] == ("gpu" if is_gpu else "cpu"), comment
        assert job["NodeList"].startswith(job["Partition"])
        assert job.get("TresPerJob") == ("gres:gpu:1" if is_gpu else None), comment


def test_memory_and_time_of_a_rule_reach_slurm(ran):
    (train,) = (j for c, j in ran.jobs.items() if rule_of(c) == "train_unet")
    assert train["TimeLimit"] == "1-00:00:00"
    assert train["MinMemoryNode"] == "8000M"
    (ingest,) = (j for c, j in ran.jobs.items() if rule_of(c) == "ingest_volume")
    assert ingest["TimeLimit"] == "02:00:00"
    assert ingest["MinMemoryNode"] == "4000M"


def test_two_gpus_never_hold_more_than_two_jobs_at_once(ran):
    parts = [j for c, j in ran.jobs.items() if rule_of(c) == "predict_part"]
    spans = [(job["StartTime"], job["EndTime"]) for job in parts]
    at_once = [sum(a <= start < b for a, b in spans) for start, _ in spans]
    assert max(at_once) == 2
    assert {job["NodeList"] for job in parts} == {"gpu1", "gpu2"}


def test_the_bits_are_those_of_a_workstation(ran, workstation):
    hashes = shard_hashes(workstation)
    assert len(hashes) > 8
    assert shard_hashes(ran) == hashes


def test_running_again_submits_nothing(ran, cluster: Loopback):
    before = len(cluster.jobs())
    assert "Nothing to be done" in ran.on_slurm().stderr
    assert len(cluster.jobs()) == before
