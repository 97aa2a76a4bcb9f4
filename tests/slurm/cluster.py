"""A SLURM of this machine's own: a controller and a few nodes, all under one folder, ended by process id.

Needs root, since slurmd starts jobs as their users, and Debian's packages slurm-wlm,
slurm-wlm-basic-plugins and munge; `missing` says which of these is not there.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "srun")
SBIN = os.pathsep.join(["/usr/sbin", "/sbin"])
START_SECONDS = 30.0


def missing() -> str | None:
    """Why there can be no cluster here, as a sentence; None if there can."""
    if os.getuid() != 0:
        return "a SLURM of its own needs root"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm slurm-wlm-basic-plugins munge)"
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        return f"this machine's name {socket.gethostname()} does not resolve"
    return None


class Cluster:
    """Nodes n0, n1, ... of `cpus` processors each, which may be more than there are. Partitions: `low`, whose
    jobs are warned and queued again when `high` needs their place, `grace` seconds later."""

    def __init__(self, nodes: int = 2, cpus: int = 2, grace: int = 20) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="fs-", dir="/tmp"))  # short: sockets lie below it
        self.names = [f"n{i}" for i in range(nodes)]
        self.environment = os.environ | {"SLURM_CONF": str(self.root / "slurm.conf"), "PATH": _path()}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        for folder in ("log", "state", "spool", "munge"):
            (self.root / folder).mkdir()
        self.root.chmod(0o755)
        (self.root / "munge").chmod(0o755)
        key = self.root / "munge" / "key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        (self.root / "slurm.conf").write_text(
            _settings(self.root, self.names, cpus, grace, _ports(nodes + 1))
        )
        (self.root / "cgroup.conf").write_text("CgroupAutomount=no\n")  # asked for, and used for nothing

    def __enter__(self) -> Cluster:
        try:
            self._start_all()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start_all(self) -> None:
        munge = self.root / "munge"
        places = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed"}
        words = [f"--{option}={munge / name}" for option, name in places.items()]
        self._launch("munged", ["munged", "--foreground", *words, f"--log-file={self.root}/log/munged.log"])
        until(lambda: (munge / "socket").exists(), "munged listens")
        self._launch("slurmctld", ["slurmctld", "-D"])
        for name in self.names:
            self.start(name)
        until(lambda: self.states() == dict.fromkeys(self.names, "idle"), "all nodes are idle")

    def start(self, node: str) -> None:
        """Start a node's daemon."""
        self._launch(node, ["slurmd", "-D", "-N", node])

    def kill(self, node: str) -> None:
        """End a node's daemon as a crash does; what its jobs run goes on, as on a node cut off."""
        self._daemons[node].kill()
        self._daemons.pop(node).wait()

    def _launch(self, name: str, command: list[str]) -> None:
        with (self.root / "log" / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                command, cwd="/", env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def call(self, *command: str, check: bool = True) -> str:
        """What a command prints, with SLURM_CONF set."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def states(self) -> dict[str, str]:
        """Node -> its state, such as idle or down."""
        said = self.call("sinfo", "--noheader", "--Node", "--partition=low", "--format=%N %t", check=False)
        return {name: state.rstrip("*") for name, state in (line.split() for line in said.splitlines())}

    def jobs(self) -> dict[str, str]:
        """Element of an array, such as 7_0, -> its state, of those that are not over."""
        said = self.call("squeue", "--array", "--noheader", "--format=%i %T")
        return dict(line.split() for line in said.splitlines())

    def finish(self, seconds: float) -> None:
        """Wait until no job is left."""
        until(lambda: not self.jobs(), "no job is left", seconds)

    def processes(self, node: str | None = None) -> dict[int, str]:
        """Process -> command line, of what this cluster's jobs run; of all nodes, or of one."""
        found = {}
        for pid, environment, command in _running():
            ours = f"SLURM_CONF={self.environment['SLURM_CONF']}" in environment
            here = node is None or f"SLURMD_NODENAME={node}" in environment
            if ours and here and any(e.startswith("SLURM_JOB_ID=") for e in environment):
                found[pid] = command
        return found

    def clear(self) -> None:
        """Cancel every job, and wait until they are gone."""
        for element in self.jobs():
            self.call("scancel", "--full", element, check=False)
        self.finish(60)

    def close(self) -> None:
        """End jobs and daemons and remove the folder."""
        with suppress(AssertionError, subprocess.TimeoutExpired):
            if "slurmctld" in self._daemons:
                self.clear()
        for name in (*self.names, "slurmctld", "munged"):
            if name in self._daemons:
                self._daemons[name].terminate()
        for name, daemon in self._daemons.items():
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                print(f"{name} does not end by itself")
                daemon.kill()
                daemon.wait()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)


def until(holds: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Wait until something holds; AssertionError if it does not within `seconds`."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), SBIN])


def _ports(count: int) -> list[int]:
    """Ports that are free now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return found


def _running() -> Iterator[tuple[int, list[str], str]]:
    """Process, its environment, its command line."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            command = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
            yield int(folder.name), environment, command


def _settings(root: Path, nodes: list[str], cpus: int, grace: int, ports: list[int]) -> str:
    host = socket.gethostname().split(".")[0]
    found = {
        "ClusterName": "tests",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": ports[0],
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        "CredType": "cred/munge",
        # A job that is queued again waits until its old credential has expired; 5 s is the least.
        "AuthInfo": f"socket={root}/munge/socket,cred_expire=5",
        "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",  # this machine alone is listened to
        "StateSaveLocation": root / "state",
        "SlurmdSpoolDir": root / "spool" / "%n",
        "SlurmctldPidFile": root / "slurmctld.pid",
        "SlurmdPidFile": root / "%n.pid",
        "SlurmctldLogFile": root / "log" / "slurmctld.log",
        "SlurmdLogFile": root / "log" / "%n.log",
        # Nothing that needs control groups, which containers have not.
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "MpiDefault": "none",
        "PropagateResourceLimits": "NONE",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        "SlurmdParameters": "config_overrides",  # more processors than there are
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0",
        "EnforcePartLimits": "ALL",  # what can never run is refused at once
        "ReturnToService": 2,
        "SlurmdTimeout": 15,
        "KillWait": 40,
        "CompleteWait": 0,
        "MinJobAge": 600,
        "JobRequeue": 1,
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "SlurmctldParameters": "preempt_send_user_signal",
        "JobCompType": "jobcomp/filetxt",
        "JobCompLoc": root / "log" / "ended.txt",
    }
    lines = [f"{name}={value}" for name, value in found.items()]
    for node, port in zip(nodes, ports[1:], strict=True):
        place = f"NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
        lines.append(f"NodeName={node} {place} CPUs={cpus} RealMemory=4000 State=UNKNOWN")
    low = f"PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace}"
    lines.append(f"PartitionName=low Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 {low}")
    lines.append("PartitionName=high Nodes=ALL MaxTime=60 DefaultTime=10 PriorityTier=9 PreemptMode=OFF")
    return "\n".join(lines) + "\n"
