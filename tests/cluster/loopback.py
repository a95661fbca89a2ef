"""A real SLURM on this machine: one controller, four nodes, two partitions.

::

    partition cpu    node cpu1, cpu2
    partition gpu    node gpu1, gpu2, each with one GPU that is /dev/null

Needs root and Debian's packages. What is odd in the configuration is so because:

- the executor's inner ``srun`` does not see ``SLURM_CONF``, so the files must be in
  /etc/slurm;
- a GPU needs a device file, any that exists;
- there is neither systemd nor a writable cgroup in a container, so processes are
  tracked by their parents and memory is sampled;
- nodes claim more than the machine has (``config_overrides``), but not more CPUs.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge")
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("cpu1", "cpu2", "gpu1", "gpu2")
ETC = Path("/etc/slurm")
FIRST_PORT = 17817

SETTINGS = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdSpoolDir={folder}/spool.%n
SlurmdParameters=config_overrides
SlurmdTimeout=20
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
SchedulerParameters=bf_interval=1,sched_interval=1
KillWait=5
MinJobAge=3600
ReturnToService=2
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs={cpus} RealMemory=64000{gres}\n"
)


def why_not() -> str | None:
    """Install what is missing; return why there can be no cluster here, or None."""
    if os.getuid() != 0:
        return "only root can start SLURM's daemons"
    if missing := [name for name in DAEMONS if not find(name)]:
        if not shutil.which("apt-get"):
            return f"{missing} are missing, and there is no apt-get"
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-qq", "-y", "--no-install-recommends"]
        for command in (["apt-get", "update", "-qq"], [*install, *PACKAGES]):
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                return f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}"
    if (ETC / "slurm.conf").exists() and not (ETC / "slurm.conf").is_symlink():
        return f"{ETC}/slurm.conf belongs to a cluster of this machine"
    return None


@contextlib.contextmanager
def running() -> Iterator["Loopback"]:
    """Start a cluster in a folder of its own, and stop it whatever happens."""
    with TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        loopback = Loopback(Path(folder))
        try:
            loopback.start()
            yield loopback
        finally:
            loopback.stop()


def find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class Loopback:
    """The daemons and their files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.cpus = len(os.sched_getaffinity(0))

    def start(self) -> None:
        if (ETC / "slurm.conf").is_symlink():  # of a test that was killed
            Loopback((ETC / "slurm.conf").readlink().parent).stop()
        self.folder.chmod(0o755)  # munged's socket must be open to all
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        self._configure()
        self._run(
            "munged",
            f"--key-file={key}",
            f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munged.seed",
        )
        self._run("slurmctld")
        for node in NODES:
            self.start_node(node)
        self.wait_for(lambda: self.states() == dict.fromkeys(NODES, "idle"), 60)

    def start_node(self, node: str) -> None:
        (self.folder / f"spool.{node}").mkdir(exist_ok=True)
        self._run("slurmd", "-N", node)

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon and all that it has started, as a power cut does."""
        spool = str(self.folder / f"spool.{node}")
        victims = [int((self.folder / f"slurmd.{node}.pid").read_text())]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().decode().split("\0")
                environment = (process / "environ").read_bytes().decode().split("\0")
            except OSError:  # it ended, or is a thread of the kernel
                continue
            if f"SLURMD_NODENAME={node}" in environment or spool in " ".join(command):
                victims.append(int(process.name))
        for job in self.jobs().values():
            if job.get("NodeList") == node and job["JobState"] == "RUNNING":
                victims += _step_daemons(job["JobId"])
        for victim in victims:
            _kill(victim, signal.SIGKILL)
        (self.folder / f"slurmd.{node}.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End jobs and daemons, and take the links in /etc/slurm away."""
        subprocess.run(["scancel", "--user=root"], check=False, capture_output=True)
        with contextlib.suppress(TimeoutError):
            self.wait_for(lambda: not self.at_work(), 30)
        for name in (*(f"slurmd.{node}" for node in NODES), "slurmctld", "munged"):
            path = self.folder / f"{name}.pid"
            if not path.exists():
                continue
            pid = int(path.read_text())
            _kill(pid, signal.SIGTERM)
            try:
                self.wait_for(lambda pid=pid: not _is_alive(pid), 10)
            except TimeoutError:
                _kill(pid, signal.SIGKILL)
        for left in _processes_with("SLURM_CLUSTER_NAME=loopback"):
            _kill(left, signal.SIGKILL)  # a cancelled batch script's own Snakemake
        for name in ("slurm.conf", "gres.conf"):
            link = ETC / name
            if link.is_symlink() and link.readlink() == self.folder / name:
                link.unlink()

    def states(self) -> dict[str, str]:
        done = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%N %T"],
            capture_output=True,
            text=True,
            check=False,
        )
        return dict(line.split() for line in done.stdout.splitlines())

    def at_work(self) -> list[str]:
        """Return the jobs that run or are being ended; none without a controller."""
        done = subprocess.run(
            ["squeue", "--noheader", "--states=R,CG", "--format=%A"],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.split()

    def jobs(self) -> dict[str, dict[str, str]]:
        """Return what the controller knows of each job, by its number."""
        done = subprocess.run(
            ["scontrol", "--oneliner", "show", "job"],
            capture_output=True,
            text=True,
            check=True,
        )
        found = {}
        for line in done.stdout.splitlines():
            pairs = (word.split("=", 1) for word in line.split() if "=" in word)
            job = dict(pairs)
            if "JobId" in job:
                found[job["JobId"]] = job
        return found

    def wait_for(self, is_so: Callable[[], object], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds} s; nodes: {self.states()}")
            time.sleep(0.2)

    def _configure(self) -> None:
        about = {"host": self.host, "folder": self.folder, "port": FIRST_PORT}
        text = SETTINGS.format(**about)
        for number, name in enumerate(NODES, 1):
            gres = " Gres=gpu:1" if name.startswith("gpu") else ""
            about = {"host": self.host, "port": FIRST_PORT + number, "gres": gres}
            text += NODE.format(name=name, cpus=self.cpus, **about)
        text += "PartitionName=cpu Nodes=cpu[1-2] Default=YES MaxTime=UNLIMITED\n"
        text += "PartitionName=gpu Nodes=gpu[1-2] MaxTime=UNLIMITED\n"
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text(
            "NodeName=gpu[1-2] Name=gpu File=/dev/null\n"
        )
        ETC.mkdir(exist_ok=True)
        for name in ("slurm.conf", "gres.conf"):
            (ETC / name).unlink(missing_ok=True)
            (ETC / name).symlink_to(self.folder / name)

    def _run(self, daemon: str, *arguments: str) -> None:
        program = find(daemon)
        assert program is not None
        said = self.folder / f"{daemon}.stderr"
        with said.open("a") as errors:  # a pipe would stay open as long as the daemon
            done = subprocess.run(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"{daemon} does not start: {said.read_text()}")


def _step_daemons(job: str) -> list[int]:
    """Return the processes that watch over a job's steps."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if command.startswith(f"slurmstepd: [{job}."):
            found.append(int(process.name))
    return found


def _processes_with(variable: str) -> list[int]:
    """Return the processes that have this in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().decode().split("\0")
        except OSError:
            continue
        if variable in environment:
            found.append(int(process.name))
    return found


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
