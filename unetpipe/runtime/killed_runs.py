"""What an earlier run left behind: its lock, its jobs on a cluster, dates to come.

Each run notes its process in the folder that it works in. A run that ends by itself,
however it ends, takes its note away; so a note whose process is gone means that the
process was killed. A killed run loses its lock of the kernel, whoever its parent is and
whichever numbers processes have where it is looked at.
"""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import psutil

from unetpipe.errors import UnetpipeError
from unetpipe.runtime.files import read_record, write_record
from unetpipe.runtime.run_files import list_small_files

NOTE = Path(".snakemake/unetpipe_run.json")
ALIVE = Path(".snakemake/unetpipe_run.lock")
LOCKS = Path(".snakemake/locks")
# With one of these Snakemake takes no lock, and so removes none at its end.
WITHOUT_LOCK = re.compile(
    r"-[a-z]*n[a-z]*|--dry-?run|--unlock|--report|--lint|--list.*|--summary|--.*(dag|graph)|-l"
)
JOB_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")

_held: list[IO[str]] = []  # as long as the process lives


def mend_earlier_run() -> str:
    """Remove the lock of a run that was killed, or say in a line what is to be done."""
    if not LOCKS.is_dir() or not any(LOCKS.iterdir()):
        return ""
    try:
        note = read_record(NOTE)
    except UnetpipeError:
        return (
            "This folder is locked: another run is just starting, or one was killed as "
            "it started. If none is running, run `snakemake --unlock` once, then "
            "repeat the same command."
        )
    run = f"process {note['pid']} on {note['host']}, started {note['started']}"
    if note["host"] != socket.gethostname():
        return (
            f"This folder is locked by a run on another machine ({run}). If it is not "
            "running any more, run `snakemake --unlock` once, then repeat the same "
            "command."
        )
    if _is_running(note):
        return (
            f"Another run is at work in this folder ({run}): wait until it ends; "
            "`--nolock` lets status and plan look beside it. A run with another `name` "
            "can go on at the same time in a folder of its own: `snakemake --directory "
            "FOLDER`."
        )
    if jobs := _jobs_on_cluster():
        return (
            f"An earlier run ({run}) was killed, and its jobs go on without it. End "
            f"them with `scancel {' '.join(jobs)}`, then repeat the same command; all "
            "finished work is kept."
        )
    shutil.rmtree(LOCKS)
    note_run()  # before anybody else takes the old note for a killed run's
    return (
        f"An earlier run ({run}) was killed. Its lock is removed; all finished work is "
        "kept, and this run goes on from there."
    )


def _is_running(note: dict[str, Any]) -> bool:
    """Return whether the run of a note lives.

    Its lock of the kernel says so, also of a process in another container; where the
    disk knows no locks, the table of processes does. Numbers of processes are reused,
    and one that is dead stays in the table until its parent has looked.
    """
    if note.get("has_lock"):
        return _is_locked(ALIVE)
    try:
        process = psutil.Process(note["pid"])
        return bool(
            process.create_time() == note["created"]
            and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        )
    except psutil.NoSuchProcess:
        return False


def _is_locked(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # removed in between
        return False
    return False


def _hold_lock() -> bool:
    """Hold the lock that says that this run lives; tell whether the disk knows any.

    Programs that this process starts do not inherit it: a job that outlives its run
    keeps nobody waiting.
    """
    ALIVE.parent.mkdir(parents=True, exist_ok=True)
    file = ALIVE.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return False
    _held.append(file)
    return True


def _jobs_on_cluster() -> list[str]:
    """Return the numbers of the SLURM jobs that a run in this folder has queued."""
    if not shutil.which("squeue"):
        return []
    command = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%A|%j|%Z"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):  # no cluster is running here
        return []
    lines = (line.split("|", 2) for line in done.stdout.splitlines())
    return [
        job
        for job, name, folder in lines
        if Path(folder).resolve() == Path.cwd()
        and JOB_NAME.search(name)
        and job != os.environ.get("SLURM_JOB_ID")
    ]


def note_run() -> None:
    """Note which process is at work in this folder, and hold its lock."""
    process = psutil.Process()
    write_record(
        NOTE,
        {
            "host": socket.gethostname(),
            "pid": process.pid,
            "created": process.create_time(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
            "has_lock": bool(_held) or _hold_lock(),
        },
    )


def forget_run() -> None:
    """Take the note away: whatever became of the run, it ended by itself."""
    NOTE.unlink(missing_ok=True)
    while _held:
        _held.pop().close()


def mend_dates(results: Path, others: Iterable[Path] = ()) -> None:
    """Date records of the future now: Snakemake refuses what is older than its input.

    They come from a machine whose clock was wrong. Contents do not change, so nothing
    is made anew for it. Stores and training states are left out: no rule has them as
    its input, and they may hold very many files.
    """
    for path in (*others, *list_small_files(results)):
        if path.exists() and path.stat().st_mtime > time.time():
            os.utime(path)
