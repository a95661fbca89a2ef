"""Start the processes that train together, on this node or on several.

::

    this process (agent)  --  worker  worker ...     nodes: 1
    this process  --  node_command  --  agent  --  worker  worker ...
                                    --  agent  --  worker  worker ...

The agent is torch's own launcher (that of ``torchrun``): it tells the workers who they
are, passes signals on, and ends all of them when one fails.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

from torch.distributed.elastic.multiprocessing.api import (
    DefaultLogsSpecs,
    SignalException,
)
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from unetpipe import errors
from unetpipe.records.team import TeamCall, TeamFailure
from unetpipe.runtime.logs import log_file

# Time to finish a step and save it before the launcher kills.
SECONDS_TO_STOP = 300
# Set where a job was given some.
GPUS_OF_SLURM = (
    *("SLURM_GPUS", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_TASK"),
    *("SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS"),
)
STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")


def launch_processes(
    arguments: dict[str, Any],
    *,
    processes: int,
    nodes: int,
    node_command: str,
    folder: Path,
) -> None:
    """Train in several processes, and return when all are done.

    Parameters
    ----------
    arguments : dict
        Of ``train_unet``, as JSON values.
    processes : int
        On each node.
    nodes : int
        How many.
    node_command : str
        Starts a command once on each node; not used for one node.
        ``fill_in_node_command`` replaces its ``{nodes}`` and ``{gpus}``.
    folder : Path
        On a disk that all nodes share; what passes between the processes lies there.

    Raises
    ------
    UnetpipeError, RuntimeError
        Whatever the first process raised that failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failure = folder / "failure.json"
    failure.unlink(missing_ok=True)
    path = folder / "call.json"
    TeamCall(
        arguments=arguments,
        log=log_file(),
        failure=failure,
        processes=processes,
        nodes=nodes,
        endpoint="localhost:0" if nodes == 1 else _free_endpoint(),
        run_id=uuid4().hex,
    ).write(path)
    try:
        if nodes == 1:
            run_agent(path)
        else:
            _run_everywhere(fill_in_node_command(node_command, nodes, processes), path)
    except (ChildFailedError, subprocess.CalledProcessError, SignalException) as error:
        raise _reason(failure, error) from None


def run_agent(path: Path) -> None:
    """Start the workers of this node and wait for them."""
    call = TeamCall.read(path)
    nodes = call.nodes
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SECONDS_TO_STOP))
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in STOP_SIGNALS}
    with tempfile.TemporaryDirectory(prefix="unetpipe-team-") as scratch:
        config = LaunchConfig(
            min_nodes=nodes,
            max_nodes=nodes,
            nproc_per_node=call.processes,
            logs_specs=DefaultLogsSpecs(log_dir=scratch),
            run_id=call.run_id,
            rdzv_backend="c10d",
            rdzv_endpoint=call.endpoint,
            local_addr="localhost" if nodes == 1 else None,
            max_restarts=0,
            signals_to_handle=",".join(STOP_SIGNALS),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "unetpipe.worker", str(path))
        finally:
            for name, handler in handlers.items():
                signal.signal(getattr(signal, name), handler)


def fill_in_node_command(node_command: str, nodes: int, processes: int) -> str:
    """Return the command for so many nodes, and a GPU for each process on them.

    All of it is said, because a step that says less inherits what the step around it
    was given: one task, on one node.
    """
    has_gpus = any(os.environ.get(name) for name in GPUS_OF_SLURM)
    gpus = f"--gpus-per-node={processes}" if has_gpus else ""
    return node_command.replace("{nodes}", str(nodes)).replace("{gpus}", gpus)


def _run_everywhere(node_command: str, path: Path) -> None:
    """Start an agent on each node; signals that reach this process reach them."""
    command = [*shlex.split(node_command), sys.executable, "-m", __name__, str(path)]
    with subprocess.Popen(command) as process, _passing_signals(process):
        returned = process.wait()
    if returned:
        raise subprocess.CalledProcessError(returned, command)


@contextmanager
def _passing_signals(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    def pass_on(_number: int, _frame: FrameType | None) -> None:
        process.send_signal(signal.SIGTERM)  # the one that launchers know

    numbers = [getattr(signal, name) for name in STOP_SIGNALS]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reason(failure: Path, error: Exception) -> Exception:
    """Return what the first failing process raised, as far as it could say."""
    if not failure.exists():
        if isinstance(error, SignalException):
            return errors.Interrupted(
                "stopped by a signal; repeat the command to go on"
            )
        return RuntimeError(
            f"a process of the training ended without a word: {_brief(error)}; repeat "
            "the command to go on from the last saved state"
        )
    said = TeamFailure.read(failure)
    kind = vars(errors).get(said.kind)
    if kind is None:
        return RuntimeError(f"{said.kind}: {said.message}")
    raised: Exception = kind(said.message)
    return raised


def _brief(error: Exception) -> str:
    if isinstance(error, ChildFailedError):
        rank, failure = error.get_first_failure()
        return f"process {rank} of the team ended with exit code {failure.exitcode}"
    return str(error)


def _free_endpoint() -> str:
    with socket.socket() as found:
        found.bind(("", 0))
        return f"{socket.gethostname()}:{found.getsockname()[1]}"


if __name__ == "__main__":
    try:
        run_agent(Path(sys.argv[1]))
    except Exception as stopped:  # the worker that failed has left word of the reason
        sys.exit(_brief(stopped))
