"""The profiles fit the rules, and the rules know no cluster."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"
RULES = {
    name: body
    for path in sorted((WORKFLOW / "rules").glob("*.smk"))
    for name, body in re.findall(
        r"^rule (\w+):\n(.*?)(?=^\S|\Z)", path.read_text(), re.MULTILINE | re.DOTALL
    )
}
ON_GPU = {name for name, body in RULES.items() if re.search(r"\bgpu=", body)}


def profile(name: str) -> dict[str, Any]:
    text = (WORKFLOW / "profiles" / name / "profile.yaml").read_text()
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def test_rules_on_a_gpu_are_those_that_the_cluster_sends_to_one() -> None:
    assert {"train_unet", "predict_part"} <= ON_GPU
    slurm = profile("slurm")
    partitions = {r: v["slurm_partition"] for r, v in slurm["set-resources"].items()}
    assert partitions == dict.fromkeys(ON_GPU, "gpu")
    assert set(slurm["set-threads"]) == ON_GPU


def test_a_workstation_gives_its_gpu_to_one_job_at_a_time() -> None:
    assert profile("default")["resources"] == {"gpu": 1}


def test_the_profiles_agree_on_what_makes_a_job_run_again() -> None:
    keys = ("rerun-triggers", "max-checksum-file-size", "rerun-incomplete", "scheduler")
    assert {k: profile("slurm")[k] for k in keys} == {
        k: profile("default")[k] for k in keys
    }


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_neither_retries_nor_knows_a_cluster(rule: str) -> None:
    assert not re.search(r"retries|slurm|partition|account|gres", RULES[rule])
