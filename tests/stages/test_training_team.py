"""Several processes train as one: the same losses, errors and interruptions."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from tests.stages.annotated import draw_instances, ingest
from tests.stages.test_train_unet import Training, rows_of, with_training
from unetpipe.config import NetworkConfig
from unetpipe.errors import ConfigError, DataError
from unetpipe.runtime.files import read_record
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.distributed import ALONE, Team, check_team, joined_team

PAPER = NetworkConfig(base_channels=2)  # the preset, but for its width


@pytest.fixture
def rows(tmp_path):
    return rows_of(ingest(tmp_path / "volumes" / "cells", draw_instances()))


def test_each_patch_of_a_step_belongs_to_one_process():
    for size in (1, 2, 3):
        shares = [list(Team(rank, size).share(5)) for rank in range(size)]
        assert sorted(i for share in shares for i in share) == [0, 1, 2, 3, 4]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_without_a_launcher_a_process_is_alone(monkeypatch):
    monkeypatch.setenv("RANK", "3")  # of some other launcher
    with joined_team(torch.device("cpu")) as (team, device):
        assert team == ALONE
        assert device == torch.device("cpu")
        assert team.sum(torch.tensor([2.0])).tolist() == [2.0]
        assert not team.any(False)
    assert team.any(True)


def test_teams_that_cannot_share_a_training_are_refused():
    check_team(UNetSpec(), batch_size=2, size=2)
    with pytest.raises(ConfigError, match=r"batch_size is 2, fewer than the 3"):
        check_team(UNetSpec(), batch_size=2, size=3)
    with pytest.raises(ConfigError, match=r"network\.normalization: none"):
        check_team(UNetSpec(normalization="batch"), batch_size=2, size=2)
    check_team(UNetSpec(normalization="batch"), batch_size=2, size=1)


@pytest.mark.slow
def test_two_processes_train_as_one_and_may_become_one(tmp_path, rows):
    """Patches, dropout and weighted mean are the batch's, whoever has which patch."""
    batch = {"batch_size": 3, "learning_rate": 0.01}
    one = Training(tmp_path / "one", rows, network=PAPER)(**with_training(**batch))
    two = Training(tmp_path / "two", rows, network=PAPER)
    two(**with_training(**batch, steps=6, processes=2))
    assert two.record["circumstances"]["processes"] == 2
    assert two.record["model"]["recipe"] == one.record["model"]["recipe"]
    two(**with_training(**batch))
    assert two.record["resumed_at"] == [6]
    assert two.record["circumstances"]["processes"] == 1
    assert [row.step for row in two.history] == list(range(1, 9))
    assert [row.loss for row in two.history] == pytest.approx(
        [row.loss for row in one.history], rel=2e-5
    )
    assert [row.validation for row in two.history if row.step == 8] == pytest.approx(
        [row.validation for row in one.history if row.step == 8], rel=1e-3
    )


@pytest.mark.slow
def test_an_error_in_a_process_is_raised_here(tmp_path, rows):
    training = Training(tmp_path / "unet", rows)
    with pytest.raises(DataError, match=r"loss is nan after step \d+; lower training"):
        training(
            **with_training(batch_size=2, processes=2, learning_rate=1e30, steps=40)
        )
    assert not (training.folder / "model.json").exists()


PROGRAM = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.stages.test_train_unet import Training, rows_of, with_training
    from unetpipe.runtime.logs import log_to
    folder = Path(sys.argv[1])
    log_to(folder / "train.log")
    rows = rows_of(folder / "volumes" / "cells" / "ingest.json")
    Training(folder / "unet", rows)(
        **with_training(batch_size=2, processes=2, steps=100000, checkpoint_every=5)
    )
    """
)


@pytest.mark.slow
def test_a_signal_stops_all_processes_with_their_work_saved(tmp_path, rows):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=Path.cwd(),
        stderr=subprocess.PIPE,
        text=True,
    )
    state = tmp_path / "unet" / "state"
    while not list(state.glob("*/state-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "repeat the command to go on" in said
    log = (tmp_path / "train.log").read_text()
    assert "2 processes of 1 threads" in log
    newest = max(int(p.name.split("-")[1]) for p in state.glob("*/state-*"))
    assert f"stopped by a signal after step {newest} of 100000" in log
    assert read_record(state / "team" / "failure.json")["kind"] == "Interrupted"


NODES = textwrap.dedent(
    """\
    #!/bin/sh
    "$@" & first=$!
    "$@" & second=$!
    trap 'kill -TERM $first $second' TERM
    wait $first && wait $second
    """
)


@pytest.mark.slow
def test_two_nodes_train_as_one(tmp_path, rows):
    """A stand-in for srun starts what it is given twice."""
    command = tmp_path / "on-each-node"
    command.write_text(NODES)
    command.chmod(0o755)
    batch = {"batch_size": 2, "learning_rate": 0.01}
    one = Training(tmp_path / "one", rows)(**with_training(**batch))
    two = Training(tmp_path / "two", rows)
    two(**with_training(**batch, nodes=2, node_command=str(command)))
    assert two.record["circumstances"]["processes"] == 2
    assert [row.loss for row in two.history] == pytest.approx(
        [row.loss for row in one.history], rel=1e-5
    )
    with pytest.raises(DataError, match="loss is nan"):
        two(
            **with_training(
                **batch | {"learning_rate": 1e30},
                steps=40,
                nodes=2,
                node_command=str(command),
            )
        )
    assert "TORCHELASTIC_RUN_ID" not in os.environ
