"""What an earlier run left behind: its lock, its jobs on a cluster, dates to come."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from unetpipe.errors import UnetpipeError
from unetpipe.storage.keeping import keep_networks
from unetpipe.runtime.files import read_record, write_record

NOTE = Path(".snakemake/unetpipe_run.json")
LOCKS = Path(".snakemake/locks")
# `snakemake status --nolock` runs beside another run, and touches nothing of it.
ONLY_LOOKS = "--nolock" in sys.argv
# These tell something themselves: where results are would scroll it away.
ONLY_ASKS = not {"plan", "status", "verify"}.isdisjoint(sys.argv)
# With one of these Snakemake takes no lock, and so removes none at its end.
WITHOUT_LOCK = re.compile(
    r"-[a-z]*n[a-z]*|--dry-?run|--unlock|--report|--lint|--list.*|--summary|--.*(dag|graph)|-l"
)


def mend_earlier_run():
    """Remove the lock of a run that was killed, or say in a line what is to be done.

    A run that ends by itself, however it ends, takes its note away; so a note whose
    process is gone means that the process was killed.
    """
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
    if is_running(note):
        return (
            f"Another run is at work in this folder ({run}): wait until it ends; "
            "`--nolock` lets status and plan look beside it."
        )
    if jobs := jobs_on_cluster():
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


def is_running(note):
    """Return whether the process of a note lives; numbers of processes are reused."""
    try:
        return psutil.Process(note["pid"]).create_time() == note["created"]
    except psutil.NoSuchProcess:
        return False


def jobs_on_cluster():
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
        and re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", name)
        and job != os.environ.get("SLURM_JOB_ID")
    ]


def prepare_run(results, manifest, models):
    """Note the process, mend dates, and keep networks before rules replace them."""
    note_run()
    mend_dates(results, manifest)
    if not ONLY_LOOKS:
        keep_networks(Path(results), models)


def note_run():
    """Note which process is at work in this folder."""
    if ONLY_LOOKS:
        return
    process = psutil.Process()
    write_record(
        NOTE,
        {
            "host": socket.gethostname(),
            "pid": process.pid,
            "created": process.create_time(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        },
    )


def forget_run():
    """Take the note away: whatever became of the run, it ended by itself."""
    if not ONLY_LOOKS:
        NOTE.unlink(missing_ok=True)


def mend_dates(results, manifest):
    """Date records of the future now: Snakemake refuses what is older than its input.

    They come from a machine whose clock was wrong. Contents do not change, so nothing
    is made anew for it. Stores and training states are left out: no rule has them as
    its input, and they may hold very many files.
    """
    paths = [Path(manifest)]
    for folder, inside, names in os.walk(results):
        inside[:] = [
            name
            for name in inside
            if not name.endswith((".zarr", "receipts")) and name != "state"
        ]
        paths += [Path(folder) / name for name in names]
    for path in paths:
        if path.exists() and path.stat().st_mtime > time.time():
            os.utime(path)


# The lock of a workflow that uses this one as a module is not ours to remove. A run that
# goes on beside the lock's owner would take all locks away as it ends.
if workflow.is_main_process and not IS_MODULE and not ONLY_LOOKS:
    if told := mend_earlier_run():
        logger.warning(told)
        if LOCKS.exists() and not any(map(WITHOUT_LOCK.fullmatch, sys.argv)):
            sys.exit(1)
