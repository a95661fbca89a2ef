"""Turn the signals that ask a job to end into a flag that it looks at."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from unetpipe.errors import Interrupted

# What a cluster sends before the wall time is over, or a job is taken off its node.
TIME_IS_UP = (signal.SIGTERM, signal.SIGUSR1)

_followed: list[threading.Event] = []


@contextmanager
def told_to_stop(*numbers: signal.Signals) -> Iterator[threading.Event]:
    """Yield an event that any of these signals sets.

    Only the main thread of a process receives signals; in another one the event is
    never set. The handlers that were there come back afterwards.
    """
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        for event in (stop, *_followed):
            event.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask_to_stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stop_event() -> Iterator[threading.Event]:
    """Yield an event that is set by the signals that ``told_to_stop`` gets meanwhile.

    What was told during the last block of a step ends no step; it is to end those that
    follow it in the same process.
    """
    stop = threading.Event()
    _followed.append(stop)
    try:
        yield stop
    finally:
        _followed.remove(stop)


def check_finished(stop: threading.Event, num_done: int, num_blocks: int) -> None:
    """Raise Interrupted if a signal has ended the work before its last block."""
    if stop.is_set() and num_done < num_blocks:
        raise Interrupted(
            f"told to stop after {num_done} of {num_blocks} blocks; all finished "
            "blocks are kept: repeat the same command to go on"
        )
