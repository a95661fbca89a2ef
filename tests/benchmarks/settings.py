"""What all benchmarks share: the device, toy or real sizes, a scratch folder."""

import platform
import subprocess
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

from unetpipe.network.devices import has_arithmetic
from unetpipe.runtime.machine import GIB, num_processors

Size = TypeVar("Size")

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "zarr",
    "tifffile",
    "dask",
    "edt",
    "monai",
    "openvino",
)


@dataclass(frozen=True)
class Settings:
    """Where and how large to measure.

    Attributes
    ----------
    device : torch.device
        Of all forward passes.
    is_quick : bool
        Toy sizes: does everything, measures nothing worth reading.
    folder : Path
        Scratch space, removed afterwards.
    """

    device: torch.device
    is_quick: bool
    folder: Path

    def choose(self, *, quick: Size, cpu: Size, cuda: Size | None = None) -> Size:
        """Return the size for this run; without one for CUDA, that for the CPU."""
        if self.is_quick:
            return quick
        return cuda if self.is_cuda and cuda is not None else cpu

    @property
    def is_cuda(self) -> bool:
        """Return whether the forward passes run on an NVIDIA GPU."""
        return self.device.type == "cuda"

    @property
    def rounds(self) -> int:
        """Return how often each thing is measured, in turn."""
        return self.choose(quick=1, cpu=3)

    @property
    def threads(self) -> int:
        """Return the threads of torch: all processors, for toys one."""
        return self.choose(quick=1, cpu=num_processors())

    @cached_property
    def precision(self) -> str:
        """Return ``bf16`` where the hardware has it, else ``fp32``."""
        return "bf16" if has_arithmetic(self.device, "bf16") else "fp32"

    def synchronise(self) -> None:
        """Wait until the device has done what it was told."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)


def describe_machine(settings: Settings) -> dict[str, Any]:
    """Return what the figures depend on and what cannot be seen in them."""
    load = psutil.getloadavg()[0]
    about = {
        "processor": _processor(),
        "processors": num_processors(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        "load_before": round(load, 2),
        "device": settings.device.type,
        "precision": settings.precision,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "code": _revision(),
    }
    if settings.is_cuda:
        about["gpu"] = torch.cuda.get_device_name(settings.device)
        about["cuda"] = torch.version.cuda
    return about


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    """Return the commit, with a + where files differ from it; None outside git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
