"""Send log messages and warnings of a job to its log file and to stderr."""

import logging
import os
import sys
from copy import copy
from pathlib import Path
from types import TracebackType

from unetpipe.errors import UnetpipeError

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_to(path: Path) -> None:
    """Log to a file and to stderr, warnings and uncaught errors included.

    Errors of ``unetpipe.errors`` are the user's to mend: they are printed as their
    message, without a traceback; the file has both. Only the owner and the group may
    write what the job leaves, whatever the shell's ``umask`` is.
    """
    os.umask(os.umask(0) | 0o002)
    path.parent.mkdir(parents=True, exist_ok=True)
    to_screen = logging.StreamHandler(sys.stderr)
    to_screen.setFormatter(_Brief(FORMAT))
    handlers: list[logging.Handler] = [logging.FileHandler(path, mode="w"), to_screen]
    logging.basicConfig(
        level=logging.INFO, format=FORMAT, handlers=handlers, force=True
    )
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught


class _Brief(logging.Formatter):
    """Leave out the traceback of an error that is the user's to mend."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info and isinstance(record.exc_info[1], UnetpipeError):
            record = copy(record)
            record.exc_info = record.exc_text = None
        return super().format(record)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger("unetpipe").critical(
        "%s: %s", kind.__name__, error, exc_info=(kind, error, trace)
    )
