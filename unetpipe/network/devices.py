"""The device that computes: which one, what it can, whether its memory suffices."""

import logging
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from unetpipe.errors import ResourceError
from unetpipe.network.gpus import take_gpu
from unetpipe.runtime.machine import GIB, has_bf16_instructions, has_cuda_driver
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.patch_size import project_memory
from unetpipe.tiling.unet_spec import UNetSpec

log = logging.getLogger(__name__)

# Of a GPU's memory, and of what is free of it: the rest is for weights and workspaces.
GPU_MEMORY_SHARE, GPU_FREE_SHARE = 0.7, 0.9


# What torch, CUDA and their libraries say where memory did not suffice. cuDNN says that
# it found no engine where the workspace of none could be had.
OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|can(?:'t|not| not) allocate memory"
    r"|_STATUS_ALLOC_FAILED|CUFFT_ALLOC_FAILED|cudaErrorMemoryAllocation"
    r"|unable to find an engine to execute|std::bad_alloc",
    re.IGNORECASE,
)


def choose_device(wanted: str, *, is_shared: bool = False) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``.

    ``auto`` is a GPU where torch can compute on one: a card that this process then has
    for itself (``take_gpu``). Where there is a GPU that torch cannot use, the log says
    why.

    Parameters
    ----------
    wanted : str
        ``auto``, ``cpu`` or ``cuda``.
    is_shared : bool
        The first card, whoever else is on it: for notebooks, which live long.

    Raises
    ------
    ResourceError
        If ``cuda`` is wanted and there is none, or if no GPU works.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    reason = _why_no_cuda()
    if reason is None:
        return torch.device("cuda", 0 if is_shared else take_gpu())
    if wanted == "cuda":
        raise ResourceError(f"device is cuda, but {reason}, or use auto or cpu")
    if has_cuda_driver():
        log.warning("this machine has a GPU, which is not used: %s", reason)
    return torch.device("cpu")


def device_like(described: Collection[str]) -> torch.device:
    """Return the device to compute on what others computed, for their bits.

    Parameters
    ----------
    described : collection of str
        What ``describe_device`` said there. A GPU where any was one, if there is one.
    """
    has_gpu = any(device.startswith("cuda") for device in described)
    return choose_device("auto" if has_gpu else "cpu")


def _why_no_cuda() -> str | None:
    """Return why torch cannot compute on a GPU here and what to do, or None."""
    version = torch.version.cuda or torch.version.hip
    if version is None:
        return (
            f"torch {torch.__version__} is a build without CUDA; install a CUDA build "
            "of torch"
        )
    if not torch.cuda.is_available():
        if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
            return "CUDA_VISIBLE_DEVICES hides all GPUs; name one there"
        return (
            f"torch {torch.__version__} sees no CUDA device; install a driver that "
            f"knows CUDA {version}, or a build of torch for the driver's CUDA"
        )
    capability, built = torch.cuda.get_device_capability(), torch.cuda.get_arch_list()
    if not has_kernels(capability, built):
        (major, minor), name = capability, torch.cuda.get_device_name()
        return (
            f"torch {torch.__version__} has no kernels for {name} (compute "
            f"capability {major}.{minor}; the build has {', '.join(built)}); "
            "install a build of torch that has"
        )
    return None


def has_kernels(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Tell whether a GPU can run a build of torch.

    Parameters
    ----------
    capability : (major, minor)
        Compute capability of the GPU.
    built : sequence of str
        ``torch.cuda.get_arch_list()``. ``sm_75`` runs on 7.5 and later minors of 7,
        ``sm_90a`` on 9.0 alone; ``compute_90`` is translated for everything later.

    Examples
    --------
    >>> has_kernels((8, 9), ["sm_75", "sm_80", "sm_90"])
    True
    >>> has_kernels((7, 0), ["sm_75", "sm_80", "compute_120"])
    False
    """
    found = [re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", name) for name in built]
    for match in filter(None, found):
        kind, suffix = match[1], match[4]
        least = (int(match[2]), int(match[3]))
        if suffix == "a":
            runs = capability == least
        elif kind == "compute" and not suffix:
            runs = capability >= least
        else:
            runs = capability[0] == least[0] and capability[1] >= least[1]
        if runs:
            return True
    return not any(found)  # a build that does not tell


def name_device(device: torch.device) -> str:
    """Return the model of a GPU, or cpu."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "cpu"


def describe_device(device: torch.device, precision: str = "fp32") -> str:
    """Return the kind of a device: results of one kind agree in every bit.

    Processors with AVX-512 alike multiply half precision by AMX, by other instructions,
    or by way of fp32, and add the products in other orders.
    """
    if device.type == "cuda":
        return f"cuda ({name_device(device)})"
    kind = torch.backends.cpu.get_cpu_capability()
    if precision == "fp32":
        return f"cpu ({kind})"
    cpu: Any = torch.cpu
    how = "AMX" if cpu._is_amx_tile_supported() else "instructions"
    if not has_arithmetic(device, precision):
        how = "fp32"
    return f"cpu ({kind}, {precision} by {how})"


def has_arithmetic(device: torch.device, precision: str) -> bool:
    """Tell whether a device computes in a precision rather than emulating it.

    oneDNN supports bf16 wherever there is AVX-512, also where it emulates it.
    """
    if precision == "fp32":
        return True
    if device.type == "cuda":
        return precision == "fp16" or torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    onednn = torch.ops.mkldnn
    if precision == "fp16":
        return bool(onednn._is_mkldnn_fp16_supported())
    return has_bf16_instructions() and bool(onednn._is_mkldnn_bf16_supported())


def check_step_memory(
    spec: UNetSpec,
    patch: Zyx,
    batch_size: int,
    device: torch.device,
    **kept: bool,
) -> None:
    """Log what a step of training keeps in memory.

    Parameters
    ----------
    spec, patch, **kept
        As ``patches.project_memory`` takes them.
    batch_size : int
        Patches of this process.
    device : torch.device
        Where they are computed.

    Raises
    ------
    ResourceError
        If the device has less.
    """
    projected = project_memory(spec, patch, batch_size, **kept)
    total = _total_memory(device)
    log.info(
        "patches of %s need about %.2f GiB of the %.1f GiB of %s",
        patch,
        projected / GIB,
        total / GIB,
        name_device(device),
    )
    if projected > total:
        raise ResourceError(
            f"a step on {batch_size} patches of {patch} needs about "
            f"{projected / GIB:.1f} GiB, {name_device(device)} has "
            f"{total / GIB:.1f} GiB; lower training.patch, training.batch_size or "
            "network.base_channels"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of torch says that memory did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    is_of_torch = isinstance(error, RuntimeError | OSError)
    return is_of_torch and OUT_OF_MEMORY.search(str(error)) is not None


@contextmanager
def enough_device_memory(what: str, remedy: str) -> Iterator[None]:
    """Turn the many ways to run out of memory into a ResourceError.

    Parameters
    ----------
    what : str
        What needed the memory.
    remedy : str
        What would need less.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(f"out of memory with {what}; {remedy}") from error


def activation_budget(device: torch.device) -> float:
    """Return the bytes that a pass may take on a GPU where nobody says.

    A fixed share of all its memory, so that the same configuration plans the same tile;
    less only where others, or a display, leave less.
    """
    free, total = torch.cuda.mem_get_info(device)
    # What this process keeps of earlier volumes is given to the next one.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    usual = GPU_MEMORY_SHARE * total
    if GPU_FREE_SHARE * free >= usual:
        return usual
    log.warning(
        "only %.1f of the %.1f GiB of %s are free; tiles are planned for less",
        *(free / GIB, total / GIB, name_device(device)),
    )
    return GPU_FREE_SHARE * free


def _total_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
