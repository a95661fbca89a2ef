"""The device that computes: which one, what it can, whether its memory suffices."""

import logging
import os

import torch

from unetpipe.errors import ResourceError
from unetpipe.runtime.machine import GIB
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.patch_size import project_memory
from unetpipe.tiling.unet_spec import UNetSpec

log = logging.getLogger(__name__)


def choose_device(wanted: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ResourceError
        If ``cuda`` is wanted and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise ResourceError(
            "device is cuda, but torch sees no CUDA device; use auto or cpu, or "
            "install a CUDA build of torch"
        )
    return torch.device("cuda" if has_cuda and wanted != "cpu" else "cpu")


def name_device(device: torch.device) -> str:
    """Return the model of a GPU, or cpu."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "cpu"


def describe_device(device: torch.device) -> str:
    """Return the kind of a device: results of one kind agree in every bit."""
    if device.type == "cuda":
        return f"cuda ({name_device(device)})"
    return f"cpu ({torch.backends.cpu.get_cpu_capability()})"


def has_arithmetic(device: torch.device, precision: str) -> bool:
    """Tell whether a device computes in a precision rather than emulating it."""
    if precision == "fp32":
        return True
    if device.type == "cuda":
        return precision == "fp16" or torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    onednn = torch.ops.mkldnn
    if precision == "fp16":
        return bool(onednn._is_mkldnn_fp16_supported())
    return bool(onednn._is_mkldnn_bf16_supported())


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
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "not enough memory" in str(error) or "can't allocate memory" in str(error)
    )


def _total_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
