"""How many processors a process may use."""

import os
import sys
from pathlib import Path

import pytest

from unetpipe.runtime import machine

AFFINITY = set(range(16))


@pytest.fixture(autouse=True)
def sixteen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of 16 processors without quotas; return its control groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: AFFINITY)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("UNETPIPE_PROCESSORS", raising=False)
    own = tmp_path / "own"
    own.write_text("12:cpu,cpuacct:/batch/job_1\n0::/user.slice/job.scope\n")
    monkeypatch.setattr(machine, "CGROUP", own)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "groups")
    (tmp_path / "groups/user.slice/job.scope").mkdir(parents=True)
    return tmp_path / "groups"


def test_all_processors_where_nobody_says_otherwise() -> None:
    assert machine.num_processors() == machine.choose_threads("auto") == 16
    assert machine.choose_threads(3) == 3


@pytest.mark.parametrize(
    ("place", "text", "expected"),
    [
        ("user.slice/job.scope/cpu.max", "max 100000\n", 16),
        ("user.slice/job.scope/cpu.max", "400000 100000\n", 4),
        ("user.slice/cpu.max", "250000 100000\n", 2),
        ("cpu.max", "50000 100000\n", 1),
        ("cpu.max", "nonsense", 16),
    ],
)
def test_the_quota_of_a_container_counts(sixteen, place, text, expected) -> None:
    (sixteen / place).write_text(text)
    assert machine.num_processors() == expected


@pytest.mark.parametrize("group", ["cpu", "cpu/batch", "cpu/batch/job_1"])
@pytest.mark.parametrize(("quota", "expected"), [("-1", 16), ("300000", 3)])
def test_quotas_of_the_first_kind_count_too(sixteen, group, quota, expected) -> None:
    (sixteen / group).mkdir(parents=True)
    (sixteen / group / "cpu.cfs_quota_us").write_text(quota)
    (sixteen / group / "cpu.cfs_period_us").write_text("100000\n")
    assert machine.num_processors() == expected


@pytest.mark.parametrize("words", ["1", "5"])
def test_the_users_variable_counts(monkeypatch, words) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", words)
    assert machine.num_processors() == machine.choose_threads("auto") == int(words)
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert machine.num_processors() == 16


def test_a_run_with_few_cores_gives_its_jobs_no_more(monkeypatch) -> None:
    """``--cores 4``: pools take 4; ``--set-threads train_unet=1``: torch takes 1."""
    monkeypatch.setenv("UNETPIPE_PROCESSORS", "")  # put back at the end
    machine.limit_processors(4)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine.num_processors() == 4
    assert machine.choose_threads("auto") == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert machine.choose_threads("auto") == 4


@pytest.mark.parametrize("given", [None, sys.maxsize])
def test_jobs_elsewhere_are_given_theirs(given) -> None:
    machine.limit_processors(given)
    assert "UNETPIPE_PROCESSORS" not in os.environ


@pytest.mark.parametrize(
    ("listed", "has_it"),
    [
        ("model name\t: Zen 3\nflags\t\t: fpu avx2 fma", False),
        ("flags\t\t: fpu avx512f avx512bw avx512_vnni", False),  # Cascade Lake
        ("flags\t\t: fpu avx512f avx512_bf16 avx512_vnni", True),  # Zen 4
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),  # Arm
        ("Features\t: fp asimd", False),
        (None, False),  # not Linux
    ],
)
def test_only_processors_with_instructions_of_bf16_have_it(
    listed: str | None,
    has_it: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One with AVX-512 alone takes 2.5 times as long in bf16 as in fp32."""
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    if listed is not None:
        one = f"processor\t: 0\n{listed}\nbugs\t\t: bf16\n\n"
        (tmp_path / "cpuinfo").write_text(2 * one)
    assert machine.has_bf16_instructions.__wrapped__() is has_it
