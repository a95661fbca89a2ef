"""Profiles of schedulers besides SLURM: what is asked of stand-ins for them."""

import itertools
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.documents import CONFIG_README
from tests.workflow.conftest import Project
from tests.workflow.test_profiles import ON_GPU, profile

DOCUMENT = CONFIG_README.read_text()
QUEUES = ("generic", "kubernetes", "pbs", "sge")
# Writes down its words, and what it is sent; then does what the test wants of it.
RECORDER = """\
#!/bin/sh
{{ echo "{name} $*"; if [ {stdin} = yes ]; then cat; fi; }} >>"$ASKED"
{then}
"""


class Commands:
    """A folder of stand-ins, first in PATH, and the record of what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "commands"
        self.folder.mkdir(parents=True)
        self.asked = folder / "asked.txt"
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "ASKED": str(self.asked)}

    def add(
        self, name: str, then: str, *, stdin: bool = False, recorded: bool = True
    ) -> None:
        path = self.folder / name
        text = RECORDER.format(name=name, then=then, stdin="yes" if stdin else "no")
        if not recorded:
            text = f"#!/bin/sh\n{then}\n"
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, command: str, cwd: Path) -> str:
        """Run a command as the executor does, by /bin/sh; return what it prints."""
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=cwd,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def submitted(name: str, commands: Commands, folder: Path, **resources) -> str:
    """Submit a job of `train_unet` by a profile; return what the scheduler was told."""
    values = {"mem_mb": 8000, "runtime": 90, "gpu": 0, "nodes": 1, "queue": ""}
    command = profile(name)["cluster-generic-submit-cmd"].format(
        threads=8, rule="train_unet", resources=SimpleNamespace(**values | resources)
    )
    assert commands.run(f'{command} "a job.sh"', folder) == "123"
    return commands.asked.read_text()


def test_grid_engine_gets_what_the_rule_declares(commands, tmp_path):
    commands.add("qsub", "echo 123")
    told = submitted("sge", commands, tmp_path)
    for words in ("-pe smp 8", "mem_free=8000M", "h_rt=5400", "-N unetpipe.train_unet"):
        assert words in told
    assert "gpu" not in told
    assert told.endswith(" a job.sh\n")
    told = submitted("sge", commands, tmp_path, gpu=2, queue="-q gpu")
    assert "-q gpu " in told.splitlines()[1]
    assert "-l gpu=2" in told.splitlines()[1]


def test_pbs_gets_what_the_rule_declares(commands, tmp_path):
    commands.add("qsub", "echo 123")
    told = submitted("pbs", commands, tmp_path)
    assert "walltime=5400" in told
    assert "select=1:ncpus=8:mem=8000mb a job.sh\n" in told
    told = submitted("pbs", commands, tmp_path, gpu=4, nodes=2, queue="-q gpu")
    assert "-q gpu " in told
    assert "select=2:ncpus=8:mem=8000mb:ngpus=2 a job.sh\n" in told


def test_a_command_of_ones_own_gets_numbers_in_order(commands, tmp_path):
    commands.add("submit-job", "echo 123")
    told = submitted("generic", commands, tmp_path, gpu=1)
    assert told == "submit-job 8 8000 90 1 1 train_unet a job.sh\n"


def test_kubernetes_gets_a_job_with_the_shared_disk(commands, tmp_path):
    commands.add("kubectl", "echo 123", stdin=True)
    (tmp_path / "a job.sh").touch()
    told = submitted("kubernetes", commands, tmp_path, gpu=1)
    call, _, text = told.partition("\n")
    assert call == "kubectl create --output name --filename -"
    job = yaml.safe_load(text)
    assert job["spec"]["activeDeadlineSeconds"] == 5400
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["bash", str(tmp_path / "a job.sh")]
    assert container["workingDir"] == str(tmp_path)
    asked = container["resources"]
    assert asked["requests"] == {"cpu": "8", "memory": "8000M"}
    assert asked["limits"] == {"nvidia.com/gpu": 1}
    (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
    assert mount["name"] == volume["name"]


GONE = "echo 'qstat: Unknown Job Id 7' >&2; exit 153"
SILENT = "echo 'cannot connect to server' >&2; exit 1"
STATES = [
    ("sge", {"qstat": "exit 0"}, "running"),
    ("sge", {"qstat": "exit 1", "qacct": "exit 1"}, "running"),
    ("sge", {"qstat": "exit 1", "qacct": "printf 'failed 0\\nexit_status 0\\n'"}, "ok"),
    ("sge", {"qstat": "exit 1", "qacct": "printf 'failed 0\\nexit_status 1\\n'"}, "no"),
    (
        "sge",
        {"qstat": "exit 1", "qacct": "printf 'failed 37\\nexit_status 0\\n'"},
        "no",
    ),
    ("pbs", {"qstat": "echo '    job_state = R'"}, "running"),
    ("pbs", {"qstat": "printf ' job_state = F\\n Exit_status = 0\\n'"}, "ok"),
    ("pbs", {"qstat": "printf ' job_state = F\\n Exit_status = 271\\n'"}, "no"),
    ("pbs", {"qstat": "printf ' job_state = C\\n exit_status = 0\\n'"}, "ok"),
    ("pbs", {"qstat": GONE}, "no"),
    ("pbs", {"qstat": SILENT}, "running"),
    ("kubernetes", {"kubectl": "echo 'unetpipe-1 '"}, "running"),
    ("kubernetes", {"kubectl": "echo 'unetpipe-1 SuccessCriteriaMet Complete'"}, "ok"),
    ("kubernetes", {"kubectl": "echo 'unetpipe-1 FailureTarget Failed'"}, "no"),
    ("kubernetes", {"kubectl": "exit 0"}, "no"),
    ("kubernetes", {"kubectl": SILENT}, "running"),
]


@pytest.mark.parametrize(("name", "answers", "state"), STATES)
def test_what_a_queue_answers_is_understood(name, answers, state, commands, tmp_path):
    for command, then in answers.items():
        commands.add(command, then)
    asked = profile(name)["cluster-generic-status-cmd"] + " '7'"
    states = {"ok": "success", "no": "failed"}
    assert commands.run(asked, tmp_path) == states.get(state, state)
    assert " 7" in commands.asked.read_text()


@pytest.mark.parametrize("name", [*QUEUES, "lsf"])
def test_a_profile_differs_from_slurms_by_the_scheduler_only(name):
    ours, slurm = profile(name), profile("slurm")
    own = re.compile("executor|cluster-generic|slurm|default-res|set-res|status-checks")
    assert {k: v for k, v in ours.items() if not own.search(k)} == {
        k: v for k, v in slurm.items() if not own.search(k)
    }
    assert set(ours.get("set-resources", ON_GPU)) == ON_GPU
    submit = ours.get("cluster-generic-submit-cmd", "")
    wanted = set(re.findall(r"{resources\.(\w+)}", submit))
    assert wanted <= set(ours["default-resources"]), "a rule without it could not run"


def on_queue(project: Project, commands: Commands, name: str, *more: str):
    """Run the project on a queue of stand-ins, with little waiting."""
    project.environment |= {
        "ASKED": str(commands.asked),
        "PATH": f"{commands.folder}{os.pathsep}{project.environment['PATH']}",
    }
    given = (f"workflow/profiles/{name}", *more, "--latency-wait", "5")
    threads = [f"{rule}=1" for rule in sorted(ON_GPU)]
    return project.snakemake(
        "--workflow-profile", *given, "--set-threads", *threads, "--jobs", "2"
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_chain_runs_on_a_grid_engine_of_stand_ins(fresh, tmp_path):
    """Each job runs as the queue would run it; the second run submits nothing."""
    commands = Commands(tmp_path)
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    commands.add(
        "qsub",
        f"id=$(wc -l <$ASKED); for script; do :; done; ("
        f'bash "$script" >{jobs}/$id.log 2>&1; echo $? >{jobs}/$id) '
        ">/dev/null 2>&1 & echo $id",
    )
    commands.add("qstat", f"test ! -e {jobs}/$2", recorded=False)
    account = f"echo failed 0; echo exit_status $(cat {jobs}/$2)"
    commands.add("qacct", account, recorded=False)
    quick = ("--seconds-between-status-checks", "2")
    on_queue(fresh, commands, "sge", *quick)
    assert (fresh.folder / "results/tiny/report.html").exists()
    told = commands.asked.read_text().splitlines()
    by_rule = {re.search(r"-N unetpipe\.(\w+)", line)[1]: line for line in told}
    assert by_rule.keys() >= {"ingest_volume", "train_unet", "predict_part"}
    assert "-q gpu" in by_rule["train_unet"]
    assert "-l gpu=1" in by_rule["predict_part"]
    assert "gpu" not in by_rule["ingest_volume"]
    assert "mem_free=4000M" in by_rule["ingest_volume"]
    on_queue(fresh, commands, "sge", *quick)
    assert commands.asked.read_text().splitlines() == told


@pytest.mark.slow
def test_lsf_gets_what_the_rules_declare(fresh, tmp_path):
    """Through the executor's plugin; jobs run as the stand-in is asked to run them."""
    commands = Commands(tmp_path)
    shared = tmp_path / "lsf"
    parameters = shared / "lsbatch/tiny/configdir/lsb.params"
    parameters.parent.mkdir(parents=True)
    parameters.write_text("DEFAULT_QUEUE = normal\n")
    commands.add(
        "badmin",
        f"printf 'x\\nLSB_SHAREDIR = {shared}\\n'; "
        f"printf 'LSF_CONFDIR = {shared}\\nLSF_UNIT_FOR_LIMITS = MB\\n'",
    )
    commands.add("lsclusters", "printf 'NAME STATUS\\ntiny ok\\n'")
    commands.add("bhist", "exit 1")
    commands.add(
        "bsub",
        'for job; do :; done; sh -c "$job" >&2; '
        f'echo $? >{shared}/7; echo "Job <7> is submitted to queue"',
    )
    commands.add(
        "bjobs", f'[ "$(cat {shared}/7)" = 0 ] && echo "7 DONE" || echo "7 EXIT"'
    )
    target = "results/tiny/volumes/cells/ingest.json"
    on_queue(fresh, commands, "lsf", "--seconds-between-status-checks", "2", target)
    assert (fresh.folder / target).exists()
    (call,) = [c for c in commands.asked.read_text().splitlines() if "bsub" in c]
    words = shlex.split(call.partition(" -cwd ")[0])
    asked = dict(itertools.pairwise(words))
    assert asked["-q"] == "normal"
    assert asked["-W"] == "120"
    assert asked["-n"] == "1"
    assert "rusage[mem=4000.0]" in words


def test_several_hosts_of_grid_engine_and_lsf_each_start_the_command_once(
    commands, tmp_path
):
    """As config/README.md writes it, split into words as the launcher splits it."""
    rows = dict(re.findall(r"^\| (\S.*?) \| .+ \| `(.+)` \|$", DOCUMENT, re.MULTILINE))
    hosts = tmp_path / "hosts"
    commands.environment |= {"PE_HOSTFILE": str(hosts), "LSB_DJOB_HOSTFILE": str(hosts)}
    commands.add("qrsh", "[ $3 != bad ]")
    commands.add("blaunch", "")
    hosts.write_text("one 8 q@one\ntwo 8 q@two\n")
    command = [*shlex.split(rows["Grid Engine"]), "python", "a path.json"]
    assert (
        subprocess.run(command, env=commands.environment, check=False).returncode == 0
    )
    told = sorted(commands.asked.read_text().splitlines())
    assert told == [
        f"qrsh -inherit -V {host} python a path.json" for host in ("one", "two")
    ]
    hosts.write_text("bad 8 q@bad\ntwo 8 q@two\n")
    assert (
        subprocess.run(command, env=commands.environment, check=False).returncode == 1
    )
    hosts.write_text("one\none\ntwo\ntwo\n")
    asked = tmp_path / "asked of LSF"
    commands.environment["ASKED"] = str(asked)
    command = [*shlex.split(rows["LSF"]), "python", "a path.json"]
    subprocess.run(command, env=commands.environment, check=True)
    assert asked.read_text() == "blaunch -z one\ntwo python a path.json\n"
