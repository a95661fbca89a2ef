"""Where and with what a result was made: recorded, never compared as an identity."""

from typing import Self

from pydantic import ConfigDict

from unetpipe.records import Value
from unetpipe.runtime.files import process_circumstances


class Circumstances(Value):
    """Machine, libraries and time of one job, and what else it tells."""

    model_config = ConfigDict(use_attribute_docstrings=True)  # published with scores

    host: str
    """Name of the machine."""
    platform: str
    """Its operating system and kind of processor."""
    python: str
    """Version of the interpreter."""
    libraries: dict[str, str | None]
    """Version of each; null where it is not installed."""
    finished: str
    """When, in UTC."""
    device: str | None = None
    """What computed."""
    threads: int | None = None
    """Of each process: the last bits depend on them."""
    processes: int | None = None
    """That trained together."""
    seconds: float | None = None
    """That the job took."""
    seconds_writing: float | None = None
    """Of them, spent on writing."""

    @classmethod
    def here(
        cls,
        *,
        device: str | None = None,
        threads: int | None = None,
        processes: int | None = None,
        seconds: float | None = None,
        seconds_writing: float | None = None,
    ) -> Self:
        """Return those of this process; what is None is not written."""
        told = {
            "device": device,
            "threads": threads,
            "processes": processes,
            "seconds": seconds,
            "seconds_writing": seconds_writing,
        }
        known = {name: value for name, value in told.items() if value is not None}
        return cls.model_validate(process_circumstances(**known))
