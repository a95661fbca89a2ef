"""Send log messages and warnings of a job to its log file and to stderr."""

import logging
import sys
from pathlib import Path
from types import TracebackType

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_to(path: Path) -> None:
    """Log to a file and to stderr, warnings and uncaught errors included.

    Errors of ``unetpipe.errors`` are the user's to mend: they are printed as their
    message, without a traceback; the file has both.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [
        logging.FileHandler(path, mode="w"),
        logging.StreamHandler(sys.stderr),
    ]
    logging.basicConfig(
        level=logging.INFO, format=FORMAT, handlers=handlers, force=True
    )
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger("unetpipe").critical(
        "%s: %s", kind.__name__, error, exc_info=(kind, error, trace)
    )
