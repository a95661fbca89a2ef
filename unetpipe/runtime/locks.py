"""One process at a time: a claim on work that ends with its process, however it ends.

Two jobs may be started on the same work: Snakemake was killed and its jobs live on, or
a node was thought lost. The claim is a lock of the kernel on a small file that names
its holder, so nothing has to be cleaned up after a kill.
"""

import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from unetpipe.errors import ResourceError

log = logging.getLogger(__name__)

SECONDS_TO_WAIT = 120.0
_POLL_SECONDS = 0.5


@contextmanager
def claim(path: Path, work: str, *, must_be_alone: bool = True) -> Iterator[None]:
    """Hold a piece of work as one's own for the length of the block.

    Where another process holds it, wait for a while: it may be ending just now.

    Parameters
    ----------
    path : Path
        The file of the claim; removed at the end.
    work : str
        What is claimed, as messages name it.
    must_be_alone : bool
        False: after the wait go on beside the other process, because both write the
        same bytes, under names of their own until they are whole.

    Raises
    ------
    ResourceError
        If another process still holds the claim and ``must_be_alone``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _take(path) or _wait(path, work)
    if file is None:
        told = (
            f"{holder(path)} is at work on {work}; wait until it ends, or end it, "
            f"then repeat the same command. If it exists no longer, delete {path}"
        )
        if must_be_alone:
            raise ResourceError(told)
        log.warning("%s; going on beside it", told)
        yield
        return
    with file:
        _sign(file)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def hold_lock(path: Path) -> IO[str] | None:
    """Take a claim without waiting, or return None where another process has it.

    It is held until the file that is returned is closed, at the latest by the end of
    this process; the file of the claim stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _take(path)
    if file is not None:
        _sign(file)
    return file


def _sign(file: IO[str]) -> None:
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()


def _wait(path: Path, work: str) -> IO[str] | None:
    """Try again for a while."""
    log.warning(
        "%s is at work on %s; waiting up to %.0f s for it to end",
        holder(path),
        work,
        SECONDS_TO_WAIT,
    )
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        if file := _take(path):
            return file
    return None


def _take(path: Path) -> IO[str] | None:
    """Return the locked file, or None where another process has it."""
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError as error:
            log.info("this disk knows no locks (%s); going on without", error)
            return file
        if _is_still(path, file):
            return file
        file.close()  # its holder removed it in between


def _is_still(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def holder(path: Path) -> str:
    """Return who holds a claim, as messages name it."""
    try:
        return path.read_text().strip() or "another process"
    except FileNotFoundError:
        return "another process"


def is_held(path: Path) -> bool:
    """Tell whether a process is at work on what a claim is for."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no claim, or a disk that knows no locks
        return False
    return False
