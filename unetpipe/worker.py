"""One process of a team: ``launch`` starts it, nobody else.

It calls the same stage as a training in one process does.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from unetpipe import config
from unetpipe.errors import UnetpipeError
from unetpipe.runtime.files import read_record, write_record
from unetpipe.runtime.logs import log_to
from unetpipe.runtime.machine import end_with_parent
from unetpipe.stages.train_unet import train_unet

log = logging.getLogger(__name__)

SECTIONS = {
    "network": config.NetworkConfig,
    "training": config.TrainingConfig,
    "augmentation": config.AugmentationConfig,
    "weight_map": config.WeightMapConfig,
    "segmentation": config.SegmentationConfig,
}


def main(path: Path) -> int:
    """Train as the file says; leave word of a failure, and return the exit code."""
    end_with_parent()
    call = read_record(path)
    if call["log"]:
        log_to(Path(call["log"]), append=True)
    if os.environ["RANK"] != "0":
        logging.getLogger().setLevel(logging.WARNING)
    try:
        train_unet(**_unpack(call["arguments"]))
    except Exception as error:
        failure = Path(call["failure"])
        if not failure.exists():  # the first is the cause, the others its effects
            record = {"kind": type(error).__name__, "message": str(error)}
            write_record(failure, record)
        if not isinstance(error, UnetpipeError):
            log.exception("process %s failed", os.environ["RANK"])
        return 1
    return 0


def _unpack(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        name: SECTIONS[name](**value)
        if name in SECTIONS
        else Path(value)
        if isinstance(value, str)
        else value
        for name, value in arguments.items()
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
