"""One GPU for one job: which card of several a process computes on.

Every process of a workstation takes a card that no other one has, by a claim (a lock of
the kernel on a file of the card) that ends with the process. ``CUDA_VISIBLE_DEVICES``
says which cards there are to choose from.
"""

import logging
import os
import tempfile
import time
from pathlib import Path
from typing import IO

import torch

from unetpipe.errors import ResourceError
from unetpipe.runtime.locks import SECONDS_TO_WAIT, hold_lock, holder
from unetpipe.runtime.machine import GIB

log = logging.getLogger(__name__)

# Less free memory than this on a card that nobody claims: another program is on it.
FREE_SHARE = 0.5
_POLL_SECONDS = 0.5

_held: dict[int, IO[str]] = {}  # the card of this process, until it ends


def take_gpu() -> int:
    """Return the number of a card that works and that this process has for itself.

    The first that is free; asked again, the same. Cards that do not work, or that other
    programs use, are named in the log and passed over. Where all are taken, by jobs
    like this one, it waits for a while, then goes on beside the first of them.

    Raises
    ------
    ResourceError
        If no card works; the message names each and its error.
    """
    if _held:
        return next(iter(_held))
    numbers = list(range(torch.cuda.device_count()))
    first = int(os.environ.get("LOCAL_RANK", 0))  # of processes that train together
    if first in numbers:
        numbers = numbers[first:] + numbers[:first]
    broken: dict[int, str] = {}
    number = _take_free(numbers, broken)
    deadline = time.monotonic() + SECONDS_TO_WAIT
    if number is None and len(broken) < len(numbers):
        working = [n for n in numbers if n not in broken]
        log.warning(
            "all GPUs are taken (%s); waiting up to %.0f s for one",
            "; ".join(f"{_name(n)} by {holder(gpu_claim_file(n))}" for n in working),
            SECONDS_TO_WAIT,
        )
        while (
            number is None
            and time.monotonic() < deadline
            and len(broken) < len(numbers)
        ):
            time.sleep(_POLL_SECONDS)
            number = _take_free([n for n in numbers if n not in broken], broken)
    if number is None:
        working = [n for n in numbers if n not in broken]
        if not working:
            raise ResourceError(
                f"no GPU works: {'; '.join(broken.values())}; mend them, name others "
                "in CUDA_VISIBLE_DEVICES, or choose device: cpu"
            )
        number = working[0]
        log.warning("%s stays taken; going on beside it", _name(number))
    torch.cuda.set_device(number)
    return number


def gpu_claim_file(number: int) -> Path:
    """Return the file of a card's claim: the same for all processes of this user.

    By its UUID, because numbers follow ``CUDA_VISIBLE_DEVICES``.
    """
    uuid = torch.cuda.get_device_properties(number).uuid
    folder = Path(tempfile.gettempdir()) / f"unetpipe-gpus-{os.getuid()}"
    return folder / f"GPU-{uuid}.claim"


def _take_free(numbers: list[int], broken: dict[int, str]) -> int | None:
    """Claim the first card that is free, works, and is not full; else the emptiest."""
    full: dict[int, tuple[int, IO[str]]] = {}
    chosen = None
    for number in numbers:
        claim = hold_lock(gpu_claim_file(number))
        if claim is None:
            continue
        try:
            free, total = _memory_of(number)
        except RuntimeError as error:
            broken[number] = f"{_name(number)}: {str(error).splitlines()[0]}"
            log.warning("%s; it is passed over", broken[number])
            claim.close()
            continue
        if free >= FREE_SHARE * total:
            chosen, _held[number] = number, claim
            break
        log.warning(
            "%s has %.1f of %.1f GiB free: another program is on it",
            *(_name(number), free / GIB, total / GIB),
        )
        full[number] = (free, claim)
    if chosen is None and full:
        chosen = max(full, key=lambda number: full[number][0])
        _held[chosen] = full.pop(chosen)[1]
    for _, claim in full.values():
        claim.close()
    return chosen


def _memory_of(number: int) -> tuple[int, int]:
    """Return free and total bytes, after a computation that shows that a card works."""
    one = torch.ones(1, device=torch.device("cuda", number))
    if float(one + one) != 2:
        raise RuntimeError("it adds 1 and 1 to something else than 2")
    free, total = torch.cuda.mem_get_info(number)
    return free, total


def _name(number: int) -> str:
    return f"GPU {number} ({torch.cuda.get_device_name(number)})"
