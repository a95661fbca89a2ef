"""What a run asks of a cluster's controller, by the controller's own count."""

import re
import subprocess
from datetime import datetime

from tests.benchmarks.figures import CannotRun, Figure
from tests.benchmarks.fresh import ROOT
from tests.benchmarks.settings import Settings
from tests.cluster.loopback import Loopback, running, why_not
from tests.workflow.conftest import Project

PARTS = 40
# A request in the table of `sdiag`: name, count, time in microseconds.
REQUEST = re.compile(
    r"^\s*(REQUEST_\w+)\s*\(\s*\d+\)\s*count:(\d+)\s+ave_time:\d+\s+total_time:(\d+)",
    re.MULTILINE,
)
LOOKS = ("REQUEST_JOB_INFO", "REQUEST_JOB_INFO_SINGLE", "REQUEST_JOB_USER_INFO")


def measure(settings: Settings) -> list[Figure]:
    """Submit many parts, with the shipped profile, to a SLURM on this machine."""
    if settings.is_quick:
        raise CannotRun("no SLURM is started for toy sizes")
    if reason := why_not():
        raise CannotRun(f"there is no SLURM here: {reason}")
    with running() as loopback:
        project = Project(settings.folder / "submitted")
        project.edit("config/tiny.yaml", "parts: 2", f"parts: {PARTS}")
        first = "results/tiny/unet/cells/plan.json"
        project.snakemake("--", first)
        subprocess.run(["sdiag", "--reset"], check=True, capture_output=True)
        profile = str(ROOT / "workflow/profiles/slurm")
        project.snakemake(
            *("--workflow-profile", profile, "--jobs", str(PARTS)),
            *("--set-threads", "predict_part=1"),
            *("--", first.replace("plan", "prediction")),
        )
        return _figures(loopback)


def _figures(loopback: Loopback) -> list[Figure]:
    jobs = list(loopback.jobs().values())
    basis = f"{len(jobs)} jobs, {PARTS} of them ready at once"
    submitted = sorted(datetime.fromisoformat(job["SubmitTime"]) for job in jobs)[
        :PARTS
    ]
    span = (submitted[-1] - submitted[0]).total_seconds()
    told = subprocess.run(["sdiag"], check=True, capture_output=True, text=True).stdout
    requests = {
        name: (int(count), int(micros)) for name, count, micros in REQUEST.findall(told)
    }
    count = sum(n for n, _ in requests.values())
    seconds = sum(micros for _, micros in requests.values()) / 1e6
    looks = sum(requests.get(name, (0, 0))[0] for name in LOOKS)
    ended = max(datetime.fromisoformat(job["EndTime"]) for job in jobs)
    minutes = (ended - submitted[0]).total_seconds() / 60
    return [
        Figure(
            "submissions a second",
            (PARTS - 1) / max(span, 1),
            basis=basis,
            details={"requests": requests},
        ),
        Figure("requests to the controller a job", count / len(jobs), basis=basis),
        Figure(
            "the controller's time a job", 1000 * seconds / len(jobs), "ms", basis=basis
        ),
        Figure("looks at the queue a minute", looks / minutes, basis=basis),
    ]
