"""How far a job is: a bar on a terminal, elsewhere a line every few seconds.

A bar redraws itself with carriage returns, which fill the log of a batch job.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from unetpipe.runtime.text import describe_seconds

Item = TypeVar("Item")

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts what is done; a context manager.

    Parameters
    ----------
    about : str
        What is being done, as the line begins.
    total : int
        How many there are.
    unit : str
        Of what, in the singular: block, step, shard.
    done : int
        How many were done before; they do not count for the rate.
    """

    def __init__(self, about: str, total: int, unit: str, *, done: int = 0) -> None:
        self.total, self.done = total, done
        self._about, self._unit = about, unit
        self._first: tuple[int, float] = (done, time.monotonic())
        self._logged = time.monotonic()
        self._bar = tqdm(
            total=total, initial=done, unit=unit, desc=about, disable=None, leave=False
        )

    def __enter__(self) -> "Progress":
        """Show the bar, if there is one."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._bar.close()

    @property
    def is_due(self) -> bool:
        """Whether the next ``update`` writes a line."""
        elapsed = time.monotonic() - self._logged
        return bool(self._bar.disable) and elapsed > SECONDS_BETWEEN_LINES

    def update(self, count: int = 1, *, note: str = "") -> None:
        """Say that so many more are done.

        Parameters
        ----------
        count : int
            Of the unit.
        note : str
            Anything else, shown beside it.
        """
        is_due = self.is_due
        self.done += count
        if note and not self._bar.disable:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(count)
        if is_due:
            self._logged = time.monotonic()
            log.info("%s", self._line(note))

    def _line(self, note: str) -> str:
        before, began = self._first
        rate = (self.done - before) / max(time.monotonic() - began, 1e-9)
        left = (self.total - self.done) / rate if rate else float("inf")
        parts = [
            f"{self._about}: {self._unit} {self.done} of {self.total}",
            *([note] if note else []),
            f"{rate:.3g} a second",
            f"{describe_seconds(left)} left",
        ]
        return ", ".join(parts)


def track_progress(items: Sequence[Item], about: str, unit: str) -> Iterator[Item]:
    """Yield items and show how far their turn has come."""
    with Progress(about, len(items), unit) as progress:
        for item in items:
            yield item
            progress.update()
