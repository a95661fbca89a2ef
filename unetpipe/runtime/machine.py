"""What this process may use and has used: processors, memory, disk."""

import ctypes
import errno
import os
import re
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Literal

from unetpipe.errors import ResourceError

GIB = 2**30


# On Linux, and in its subsystem on Windows, where the driver is Windows' own.
NVIDIA_DRIVERS = (
    Path("/proc/driver/nvidia/version"),
    Path("/usr/lib/wsl/lib/libcuda.so.1"),
)


CPU_INFO = Path("/proc/cpuinfo")
CPU_FLAGS = re.compile(r"^(?:flags|Features)\s*:(.*)$", re.MULTILINE)
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
CGROUP, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
OMP, GIVEN = "OMP_NUM_THREADS", "UNETPIPE_PROCESSORS"
MORE_THAN_ANY = 1 << 20
NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")


def has_cuda_driver() -> bool:
    """Return whether there is a driver of NVIDIA GPUs, without loading torch."""
    return any(path.exists() for path in NVIDIA_DRIVERS)


@cache
def has_bf16_instructions() -> bool:
    """Return whether the processor multiplies in bf16, without loading torch.

    By AVX-512 BF16, AMX or Arm's BF16, as Linux lists them; elsewhere False.
    Processors with AVX-512 alone compute it by way of fp32, in more time than fp32.
    """
    if not CPU_INFO.exists():
        return False
    flags = CPU_FLAGS.search(CPU_INFO.read_text())
    return flags is not None and not BF16_FLAGS.isdisjoint(flags[1].split())


def num_gpus() -> int:
    """Return how many NVIDIA GPUs this process may use, without loading torch.

    As the driver lists them, or ``CUDA_VISIBLE_DEVICES`` where it is set: that names
    GPUs by number or by UUID, and counts up to the first that is none.
    """
    if not has_cuda_driver():
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = (name.strip() for name in visible.split(","))
        return sum(1 for _ in takewhile(lambda name: name not in ("", "-1"), names))
    return len(list(NVIDIA_GPUS.glob("*"))) or 1


def num_processors() -> int:
    """Return how many processors this process may use.

    Those that it may run on, within the quota of its container, and within what a run
    was given (``limit_processors``) or the user's ``OMP_NUM_THREADS`` allows.
    """
    given = os.environ.get(GIVEN) or os.environ.get(OMP, "")
    bounds = [len(os.sched_getaffinity(0)), *_quotas(CGROUP, CGROUPS)]
    if given.isdecimal():
        bounds.append(int(given))
    return max(1, min(bounds))


def limit_processors(given: int | None) -> None:
    """Let this process, and all that it starts, use no more processors than these.

    Parameters
    ----------
    given : int or None
        None, or more than any machine has: jobs run elsewhere, and are given theirs.
    """
    if given is not None and given < MORE_THAN_ANY:
        os.environ[GIVEN] = str(max(1, min(given, num_processors())))


@cache
def _quotas(own_groups: Path, root: Path) -> tuple[int, ...]:
    """Return the processors of each control group around this process, as it began."""
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:  # another system
        return ()
    return tuple(_quotas_of(lines, root))


def _quotas_of(lines: list[str], root: Path) -> Iterator[int]:
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if not controllers:
            for group in _around(root, own):
                with suppress(OSError, ValueError):
                    quota, period = (group / "cpu.max").read_text().split()
                    yield max(1, int(quota) // int(period))  # "max" is no number
        elif "cpu" in controllers.split(","):  # the first version of control groups
            for group in _around(root / "cpu", own):
                with suppress(OSError, ValueError):
                    quota, period = (
                        (group / f"cpu.cfs_{name}_us").read_text()
                        for name in ("quota", "period")
                    )
                    if int(quota) > 0:
                        yield max(1, int(quota) // int(period))


def _around(root: Path, own: str) -> Iterator[Path]:
    """Yield the folders of a control group and of those around it.

    Within a container the root itself is the own group, whatever it is called outside.
    """
    inside = PurePosixPath(own.lstrip("/"))
    for group in dict.fromkeys((inside, *inside.parents, PurePosixPath())):
        yield root / group


def job_processors() -> int:
    """Return how many threads a job's own computation may have.

    An engine tells each job its share in ``OMP_NUM_THREADS``; what a run was given
    bounds it.
    """
    share = os.environ.get(OMP, "")
    return min(num_processors(), int(share) if share.isdecimal() else num_processors())


def choose_threads(wanted: int | Literal["auto"]) -> int:
    """Return a number of threads: the wanted one, or the job's share for ``auto``."""
    return max(1, job_processors()) if wanted == "auto" else wanted


def job_threads(wanted: int | Literal["auto"], device: str) -> int:
    """Return the processors that a job of a rule asks for.

    With several GPUs its share of them, so that as many jobs fit the machine at once.
    What torch takes is another matter: plans fix it, because bits depend on it.

    Parameters
    ----------
    wanted : int or "auto"
        Threads of the configuration.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    """
    if wanted != "auto":
        return wanted
    jobs = 1 if device == "cpu" else max(1, num_gpus())
    return max(1, num_processors() // jobs)


def peak_rss_bytes() -> int:
    """Return the largest resident memory that this process has had.

    Linux counts from the program's start (``VmHWM``); ``getrusage`` would count the
    memory of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM:")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def keep_freed_memory() -> None:
    """Let this process keep freed memory for its next allocation (glibc).

    By default every large array is fetched from the system and given back, page by
    page: that took a fifth of the time of a forward pass. The price is that gaps
    between arrays add to the peak; projections count them.
    """
    mmap_threshold, trim_threshold = -3, -1  # names of mallopt's parameters
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library: it does as it likes
        return
    mallopt(mmap_threshold, 2**30)
    mallopt(trim_threshold, 2**31 - 1)


def end_with_parent() -> None:
    """Let this process be asked to end when the one that started it dies (Linux)."""
    prctl_parent_death = 1
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):  # another system: it lives on until it is done
        return
    prctl(prctl_parent_death, signal.SIGTERM)


def check_free_disk(folder: Path, needed_bytes: float) -> None:
    """Raise ResourceError unless the disk of a folder has room.

    Parameters
    ----------
    folder : Path
        Or its nearest existing parent.
    needed_bytes : float
        What is about to be written.
    """
    existing = next(p for p in (folder, *folder.resolve().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if needed_bytes > free:
        raise ResourceError(
            f"{existing} has {free / GIB:.2f} GiB free, about "
            f"{needed_bytes / GIB:.2f} GiB are needed; free some, or run in a folder "
            "on another disk"
        )


@contextmanager
def enough_disk(path: Path, what: str) -> Iterator[None]:
    """Turn a full disk, or a quota that is used up, into a ResourceError.

    Parameters
    ----------
    path : Path
        What the block writes.
    what : str
        Its size or kind, for the message.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(next(p for p in path.parents if p.exists())).free
        raise ResourceError(
            f"no room on the disk for {what} of {path} ({error.strerror}, "
            f"{free >> 20} MB free); free some, then repeat the same command: what is "
            "finished is kept"
        ) from error


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder, as far as they can be seen."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # deleted just now
                total += Path(path, name).lstat().st_size
    return total
