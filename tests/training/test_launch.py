"""What a team of several nodes, or of several GPUs, is started and ended with."""

import shlex

import pytest
import torch

from unetpipe.config import TrainingConfig
from unetpipe.training import distributed
from unetpipe.training.distributed import joined_team
from unetpipe.training.launch import GPUS_OF_SLURM, fill_in_node_command

COMMAND = TrainingConfig().node_command


@pytest.fixture(autouse=True)
def no_gpus_of_slurm(monkeypatch):
    for name in GPUS_OF_SLURM:
        monkeypatch.delenv(name, raising=False)


def test_a_step_of_several_nodes_says_how_many():
    """Inside a step of one task, it would inherit one node and one task."""
    words = shlex.split(fill_in_node_command(COMMAND, 3, 4))
    assert words[0] == "srun"
    assert {"--nodes=3", "--ntasks=3", "--ntasks-per-node=1"} <= set(words)
    assert not any("gpus" in word for word in words)


@pytest.mark.parametrize("name", GPUS_OF_SLURM)
def test_a_gpu_for_each_process_is_asked_for_where_there_are_some(monkeypatch, name):
    monkeypatch.setenv(name, "4")
    assert "--gpus-per-node=4" in shlex.split(fill_in_node_command(COMMAND, 2, 4))


def test_other_launchers_are_left_as_they_are():
    assert fill_in_node_command("mpirun -np {nodes} ${X}", 2, 1) == "mpirun -np 2 ${X}"
    assert (
        fill_in_node_command("parallel-ssh --inline", 2, 1) == "parallel-ssh --inline"
    )


@pytest.fixture
def ended(monkeypatch):
    """Whether the processes' group was destroyed, of a team that is only played."""
    calls = []
    group = distributed.distributed
    monkeypatch.setattr(group, "init_process_group", lambda *a, **k: None)
    monkeypatch.setattr(group, "destroy_process_group", lambda: calls.append(1))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    return calls


@pytest.mark.parametrize(
    ("kind", "num_destroyed"), [("cuda", 0), ("cpu", 1)], ids=["cuda", "cpu"]
)
def test_after_an_error_nobody_waits_for_gpus_that_no_longer_answer(
    ended, kind, num_destroyed
):
    with pytest.raises(KeyError), joined_team(torch.device(kind)) as (_, device):
        assert device.type == kind
        raise KeyError
    assert len(ended) == num_destroyed


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_a_team_that_is_done_parts_in_order(ended, kind):
    with joined_team(torch.device(kind)) as (team, _):
        assert (team.rank, team.size) == (1, 2)
    assert len(ended) == 1
