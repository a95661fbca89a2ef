"""The profiles fit the rules, and the rules know no cluster."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.cli import parse_args

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


def started(monkeypatch, *words: str) -> Any:
    """Return what Snakemake is asked for by a command and by profiles."""
    monkeypatch.chdir(WORKFLOW.parent)
    monkeypatch.setattr(sys, "argv", ["snakemake", *words])
    return parse_args(list(words))[1]


def test_a_workstation_gives_its_gpu_to_one_job_at_a_time(monkeypatch) -> None:
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    args = started(monkeypatch)
    assert (args.cores, args.latency_wait) == (len(os.sched_getaffinity(0)), 30)
    assert args.resources["gpu"].raw == 1


@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_profile_of_ones_own_says_first_what_belongs_to_the_machine(
    way, tmp_path, monkeypatch
) -> None:
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    (tmp_path / "profile.yaml").write_text(
        "cores: 1\nresources: {gpu: 3}\nlatency-wait: 5\nkeep-going: false\n"
    )
    words = ["--profile", str(tmp_path)]
    if way == "variable":
        monkeypatch.setenv(*("SNAKEMAKE_PROFILE", words.pop()))
        words.clear()
    args = started(monkeypatch, *words)
    assert (args.cores, args.latency_wait) == (1, 5)
    assert args.resources["gpu"].raw == 3
    assert args.keep_going, "what belongs to the workflow stays"
    assert started(monkeypatch, *words, "--cores", "2").cores == 2


@pytest.mark.parametrize(
    "spelled", ["{mem_mb: 16000}", "[mem_mb=16000]", "mem_mb=16000"]
)
def test_a_profile_of_ones_own_that_names_no_gpu_has_one(
    spelled, tmp_path, monkeypatch
) -> None:
    (tmp_path / "profile.yaml").write_text(f"resources: {spelled}\n")
    args = started(monkeypatch, "--profile", str(tmp_path))
    assert {k: v.raw for k, v in args.resources.items()} == {"gpu": 1, "mem_mb": 16000}


def test_a_number_of_jobs_in_ones_own_profile_is_one_of_cores(
    tmp_path, monkeypatch
) -> None:
    (tmp_path / "config.yaml").write_text("jobs: 3\n")
    args = started(monkeypatch, "--profile", str(tmp_path))
    assert (args.cores, args.jobs) == (None, 3)
    assert started(monkeypatch, "--profile", "none").latency_wait == 30


def test_the_profiles_agree_on_what_makes_a_job_run_again() -> None:
    keys = ("rerun-triggers", "max-checksum-file-size", "rerun-incomplete", "scheduler")
    assert {k: profile("slurm")[k] for k in keys} == {
        k: profile("default")[k] for k in keys
    }


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_neither_retries_nor_knows_a_cluster(rule: str) -> None:
    assert not re.search(r"retries|slurm|partition|account|gres", RULES[rule])
