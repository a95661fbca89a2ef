"""What passes between the processes that train together."""

from pathlib import Path
from typing import Any

from unetpipe.records import Record


class TeamCall(Record):
    """``call.json``: what each process is to do."""

    WHAT = "the call of a team"

    arguments: dict[str, Any]
    """Of the stage, as JSON values."""
    log: Path | None
    failure: Path
    processes: int
    """On each node."""
    nodes: int
    endpoint: str
    run_id: str


class TeamFailure(Record):
    """``failure.json``: what the first process raised that failed."""

    WHAT = "the failure of a team"

    kind: str
    message: str
