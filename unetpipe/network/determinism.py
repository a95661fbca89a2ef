"""The same bits every time on the same machine, where the device needs to be told."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def deterministic_algorithms(*, deterministic: bool) -> Iterator[None]:
    """Compute with deterministic algorithms, or with the fastest; fp32 is fp32.

    On CPUs both are the same, as long as the number of threads is. On a GPU the fastest
    are chosen by trying, and some of them add numbers up in whatever order they come.
    TF32, which torch takes for convolutions in fp32 by default, keeps 10 bits of 23.

    Notes
    -----
    Whatever has no deterministic version is warned about rather than refused: that of
    pooling is deterministic all the same, since its windows do not overlap.
    """
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.benchmark,
    )
    if deterministic:
        # Read when the first matrix is multiplied on a GPU.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    cudnn.benchmark = not deterministic  # patches have one shape
    try:
        with without_tf32():
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.benchmark = before[2]


@contextmanager
def without_tf32() -> Iterator[None]:
    """Let cuDNN convolve fp32 in fp32, whatever the process has chosen so far.

    By the one switch of convolutions: the older ``allow_tf32`` refuses to be read where
    somebody set the newer ones, and the general ``fp32_precision`` does not reach
    convolutions in all versions of torch.
    """
    convolution = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolution.fp32_precision
    convolution.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolution.fp32_precision = before


@contextmanager
def repeatable_convolutions(*, autotune: bool) -> Iterator[None]:
    """Let cuDNN take only algorithms that repeat their bits, and no TF32 for fp32.

    Parameters
    ----------
    autotune : bool
        Let cuDNN time its algorithms on each new shape.
    """
    cudnn = torch.backends.cudnn
    before = (cudnn.enabled, cudnn.benchmark, cudnn.deterministic)
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = True, autotune, True
    try:
        with without_tf32():
            yield
    finally:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = before
