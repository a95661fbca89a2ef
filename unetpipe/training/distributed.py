"""The processes that train one network together; alone, a team of one.

Each process takes its share of a step's patches. Sums over all of them make the step
what one process with all the patches would do; only the first process writes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from unetpipe.errors import ConfigError, DataError
from unetpipe.tiling.unet_spec import UNetSpec

# The others wait while the first validates. When one dies, the launcher ends all.
PATIENCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Team:
    """One process among those that train together.

    Attributes
    ----------
    rank, size : int
        Which of how many.
    local_rank, local_size : int
        The same on this node.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        """Say whether this process validates and writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> range:
        """Return the patches of a step that are this process's."""
        return range(self.rank, batch_size, self.size)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the module to call in training: its gradients are the team's mean."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network)

    def sum(self, values: Tensor) -> Tensor:
        """Return values summed over the team; the argument may be changed."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def any(self, is_true: bool) -> bool:
        """Say whether anything is true for any process."""
        return int(self.sum(torch.tensor(int(is_true)))) > 0

    def agree_on_step(self, step: int) -> None:
        """Raise DataError unless all processes go on from the same step."""
        if self.any(int(self.sum(torch.tensor(step))) != step * self.size):
            raise DataError(
                f"process {self.rank} goes on after step {step}, others after another "
                "one: they see different states; put the results on a disk that all "
                "nodes share"
            )


ALONE = Team()


def check_team(spec: UNetSpec, batch_size: int, size: int) -> None:
    """Raise ConfigError unless so many processes can share the training.

    Parameters
    ----------
    spec : UNetSpec
        Batch statistics would be those of each process's patches alone.
    batch_size : int
        Patches of a step, of all processes together.
    size : int
        Processes.
    """
    if batch_size < size:
        raise ConfigError(
            f"training.batch_size is {batch_size}, fewer than the {size} processes "
            f"that share it; raise it to {size} or lower training.processes"
        )
    if size > 1 and spec.normalization == "batch":
        raise ConfigError(
            f"training.processes: {size} processes would normalise by their own "
            "patches, not by the batch; use network.normalization: none, or 1 process"
        )


@contextmanager
def joined_team(device: torch.device) -> Iterator[tuple[Team, torch.device]]:
    """Join the team that this process was launched into; yield it and the device.

    The launcher says in the environment which process this is. Without a launcher, or
    with one process, it is a team of one.

    Raises
    ------
    ConfigError
        If this node has fewer GPUs than processes.
    """
    team = _find_team()
    if team.size == 1:
        yield team, device
        return
    if device.type == "cuda":
        if torch.cuda.device_count() < team.local_size:
            raise ConfigError(
                f"training.processes is {team.local_size}, this node has "
                f"{torch.cuda.device_count()} GPUs; use that many processes"
            )
        if device.index is None:  # else the card that this process has for itself
            device = torch.device("cuda", team.local_rank)
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield team, device
    except BaseException:
        # GPUs would wait for processes that no longer answer; this one ends anyway.
        if device.type != "cuda":
            distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()


def is_launched() -> bool:
    """Say whether a launcher started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _find_team() -> Team:
    if not is_launched():
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Team(*(int(os.environ[name]) for name in names))
