"""The same bits every time on the same machine, where the device needs to be told."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def algorithms(*, deterministic: bool) -> Iterator[None]:
    """Compute with deterministic algorithms, or with the fastest.

    On CPUs both are the same, as long as the number of threads is. On a GPU the fastest
    are chosen by trying, and some of them add numbers up in whatever order they come.

    Notes
    -----
    Whatever has no deterministic version is warned about rather than refused: that of
    pooling is deterministic all the same, since its windows do not overlap.
    """
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )
    if deterministic:
        # Read when the first matrix is multiplied on a GPU.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic  # patches have one shape
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = before[2]
