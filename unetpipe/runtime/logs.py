"""Send log messages and warnings of a job to its log file and to stderr."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from types import FrameType, TracebackType

from unetpipe.errors import UnetpipeError
from unetpipe.runtime.signals import TIME_IS_UP

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
SCREEN = "%(asctime)s %(message)s"  # the rest is in the file
CRITICAL = " CRITICAL "
CLEAR = "\r\x1b[K"
TAIL_BYTES = 1 << 16
STOPPED = "Interrupted: stopped by %s before it was done; the same command goes on"


def log_to(path: Path, *, append: bool = False) -> None:
    """Log to a file and to stderr, warnings and uncaught errors included.

    Errors of ``unetpipe.errors`` are the user's to mend: they are printed as their
    message, without a traceback; the file has both. Only the owner and the group may
    write what the job leaves, whatever the shell's ``umask`` is. A signal that ends the
    job leaves a line. ``append`` is for the processes that a job starts: they go on in
    its file, and who ends them says why. Where the process logs to this file already,
    it goes on: so the steps of a lot do.
    """
    if (known := log_file()) and known.resolve() == path.resolve():
        return
    os.umask(os.umask(0) | 0o002)
    path.parent.mkdir(parents=True, exist_ok=True)
    to_screen = logging.StreamHandler(sys.stderr)
    to_screen.setFormatter(_Brief(SCREEN, "%H:%M:%S"))
    if not append:
        path.write_bytes(b"")
    # Always at the end: other processes may write to it as well.
    handlers: list[logging.Handler] = [logging.FileHandler(path, mode="a"), to_screen]
    logging.basicConfig(
        level=logging.INFO, format=FORMAT, handlers=handlers, force=True
    )
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    if not append and threading.current_thread() is threading.main_thread():
        for number in TIME_IS_UP:
            signal.signal(number, _log_and_end)


def log_to_screen() -> None:
    """Print warnings, and errors that are the user's to mend without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
    logging.getLogger().handlers[0].setFormatter(_Brief("%(message)s"))
    sys.excepthook = _log_uncaught


@contextmanager
def only_warnings_on_screen() -> Iterator[None]:
    """Leave what is not at least a warning to the log file, for the block."""
    screens = [
        handler
        for handler in logging.getLogger().handlers
        if not isinstance(handler, logging.FileHandler)
    ]
    before = [handler.level for handler in screens]
    for handler in screens:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in zip(screens, before, strict=True):
            handler.setLevel(level)


def log_file() -> Path | None:
    """Return the file that ``log_to`` was told, None if it was not called."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            return Path(handler.baseFilename)
    return None


def last_error_in_log(path: Path) -> str:
    """Return the first line of the error with which a job ended; empty without one."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    found = [line for line in lines if CRITICAL in line]
    return found[-1].partition(CRITICAL)[2].partition(": ")[2] if found else ""


class _Brief(logging.Formatter):
    """Leave out the traceback of an error that is the user's to mend."""

    def format(self, record: logging.LogRecord) -> str:
        record = copy(record)
        if record.exc_info and isinstance(record.exc_info[1], UnetpipeError):
            record.exc_info = record.exc_text = None
        if record.levelno == logging.WARNING:
            record.msg, record.args = f"warning: {record.getMessage()}", None
        # On a terminal the line of the run may stand there, without an end.
        return (CLEAR if sys.stderr.isatty() else "") + super().format(record)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    log = logging.getLogger("unetpipe")
    if issubclass(kind, KeyboardInterrupt):
        log.critical(STOPPED, "Ctrl-C")
        return
    log.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def _log_and_end(number: int, _frame: FrameType | None) -> None:
    """Say that a signal ends the job, and let it: nothing needs to be put in order."""
    signal.signal(number, signal.SIG_DFL)
    try:
        name = signal.Signals(number).name
        logging.getLogger("unetpipe").critical(STOPPED, name)
    finally:
        os.kill(os.getpid(), number)
