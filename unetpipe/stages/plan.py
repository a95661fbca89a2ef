"""Rule plan: what a whole run will take, before it runs or in the middle of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetpipe.config import Config
from unetpipe.errors import DataError, ResourceError
from unetpipe.report.run_plan import (
    RunFiles,
    WantedNetwork,
    WantedVolume,
    as_table,
    plan_run,
)
from unetpipe.runtime.files import write_bytes_atomic
from unetpipe.runtime.machine import GIB


def plan(
    *,
    config: dict[str, Any],
    volumes: list[WantedVolume],
    networks: list[WantedNetwork],
    manifest: Path,
    results: Path,
    command: str,
    record: Path,
    jobs: Mapping[str, bool] = {},
) -> None:
    """Print and record what a run takes; refuse what cannot fit on the disk.

    Volumes that are not stored yet are known from their files' headers; what is not
    fetched yet is named and left out. No voxel is read, no network runs.

    Parameters
    ----------
    config : dict
        The configuration.
    volumes : list of WantedVolume
        Those of the sheet.
    networks : list of WantedNetwork
        Those of the run.
    manifest : Path
        Of the originals, if they are here.
    results : Path
        Folder of the run.
    command : str
        With which the user runs Snakemake.
    jobs : mapping
        Of each job of the run a file that it leaves -> whether it predicts a lot.
    record : Path
        Where to write ``plan.json``; the table lies beside it as ``plan.txt``.

    Raises
    ------
    DataError
        If a volume cannot be read, or lacks sections that the sheet names; lists all.
    ResourceError
        If the disk has too little room for what is left to be done.
    """
    checked = Config(**config)
    files = RunFiles(results, manifest, command)
    planned = plan_run(checked, volumes, networks, files, jobs)
    table = as_table(planned, checked, results)
    print(table)
    write_bytes_atomic(record.with_suffix(".txt"), f"{table}\n".encode())
    planned.write(record)
    if planned.problems:
        first, *more = planned.problems
        raise DataError("\n  ".join([f"the run would fail: {first}", *more]))
    disk = planned.disk
    if disk.needed_bytes > disk.free_bytes:
        raise ResourceError(
            f"{results} has {disk.free_bytes / GIB:.2f} GiB ({disk.free_bytes} bytes) "
            f"free, about {disk.needed_bytes / GIB:.2f} GiB are needed; free some, "
            "predict less (prediction.roi, prediction.mask), or run in a folder on "
            "another disk"
        )
