"""One process of a team: ``launch_processes`` starts it, nobody else.

It calls the same stage as a training in one process does.
"""

import logging
import os
import sys
from pathlib import Path

from unetpipe.errors import UnetpipeError
from unetpipe.records.team import TeamCall, TeamFailure
from unetpipe.runtime.logs import log_to
from unetpipe.runtime.machine import end_with_parent
from unetpipe.stages.train_unet import train_unet
from unetpipe.training.order import TrainingFiles, TrainingOrder

log = logging.getLogger(__name__)


def main(path: Path) -> int:
    """Train as the file says; leave word of a failure, and return the exit code."""
    end_with_parent()
    call = TeamCall.read(path)
    if call.log:
        log_to(call.log, append=True)
    if os.environ["RANK"] != "0":
        logging.getLogger().setLevel(logging.WARNING)
    try:
        train_unet(
            order=TrainingOrder(**call.arguments["order"]),
            files=TrainingFiles(**call.arguments["files"]),
        )
    except Exception as error:
        if not call.failure.exists():  # the first is the cause, others its effects
            kind = type(error).__name__
            TeamFailure(kind=kind, message=str(error)).write(call.failure)
        if not isinstance(error, UnetpipeError):
            log.exception("process %s failed", os.environ["RANK"])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
