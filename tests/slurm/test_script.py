"""What is written for SLURM, and what the script does, with a made-up scontrol and a made-up command."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedsim.base import RequestError
from fedsim.config.slurm import SlurmConfig
from fedsim.slurm import Slurm, batch, run_here, tasks
from fedsim.slurm.script import Job

ROOT = Path(__file__).resolve().parents[2]
JOB = Job(
    name="fedsim-small-1234abcd",
    folder=Path("/shared/results/small/slurm/1234abcd"),
    place=Path("/shared"),
    command=["python", "-m", "fedsim.cli", "sweep", "/shared/x.yaml", "algorithm=[a b]"],
    ray=["ray"],
    asked="fedsim submit small",
    tasks=4,
    cells=24,
    threads=2,
    python_path="/src",
)


def lines(cfg, job=JOB):
    return batch(cfg, job).splitlines()


def test_options_of_sbatch():
    found = [line for line in lines(SlurmConfig()) if line.startswith("#SBATCH ")]
    assert found == [
        "#SBATCH --job-name=fedsim-small-1234abcd",
        "#SBATCH --array=0-3",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --signal=B:USR1@120",
        "#SBATCH --chdir=/shared",
        "#SBATCH --output=/shared/results/small/slurm/1234abcd/logs/%A_%a.out",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
    ]
    cfg = SlurmConfig(
        partition="a,b", account="heart", qos="long", constraint="a100&nvlink", time="8:00:00", cpus=8,
        gpus=2, memory="64G", throttle=3, signal_seconds=60, extra=("--exclusive", "--mail-type=END"),
    )  # fmt: skip
    wanted = {
        "--array=0-3%3", "--partition=a,b", "--account=heart", "--qos=long", "--constraint=a100&nvlink",
        "--time=8:00:00", "--cpus-per-task=8", "--gpus-per-node=2", "--mem=64G", "--signal=B:USR1@60",
        "--exclusive", "--mail-type=END",
    }  # fmt: skip
    assert {f"#SBATCH {option}" for option in wanted} <= set(lines(cfg))


def test_the_sites_lines_come_before_the_command_in_their_order():
    cfg = SlurmConfig(
        modules=("gcc/13", "cuda"), environment=("export A=1",), container="apptainer exec f.sif"
    )
    found = lines(cfg)
    order = [
        "module load gcc/13 || exit 1",
        "module load cuda || exit 1",
        "export PYTHONPATH=/src",
        "export A=1",
        "command=(apptainer exec f.sif python -m fedsim.cli sweep /shared/x.yaml 'algorithm=[a b]')",
    ]
    assert [found.index(line) for line in order] == sorted(found.index(line) for line in order)


def test_odd_folders(tmp_path):
    """With a space, a per cent sign and a quote, for sbatch and for bash."""
    folder = tmp_path / "Örebro 50% o'clock"
    text = batch(SlurmConfig(), replace(JOB, folder=folder, place=tmp_path))
    assert f'#SBATCH --output="{tmp_path}/Örebro 50%% o\'clock/logs/%A_%a.out"' in text
    said = subprocess.run(["bash", "-c", text.split("# What every task")[0] + 'echo "$folder"'], **READ)
    assert said.stdout == f"{folder}\n"


@pytest.mark.parametrize("name", ["task.sh", "ray.sh"])
def test_scripts_are_bash(name):
    subprocess.run(["bash", "-n", str(ROOT / "slurm" / name)], check=True)


# --- what a task does ------------------------------------------------------------------------

READ: Any = {"capture_output": True, "text": True, "timeout": 120, "check": True}
SCONTROL = """#!/bin/bash
echo "$*" >> "$0.asked"
if [[ $1 == show ]]; then echo "JobId=9 JobState=$STATE Reason=None"; else kill "$PPID"; fi
"""


# bash cannot listen to what it was told to ignore; Python can. While Python ends, a signal with a handler
# gets back its first effect, and the warning comes again and again: as fedsim does, it ignores it by then.
LISTENING = """
import pathlib, signal, sys, time

def hear(*_):
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    sys.exit({code})

pathlib.Path("begun").touch()
time.sleep({after})
signal.signal(signal.SIGUSR1, hear)
pathlib.Path("ready").touch()
time.sleep(100)
"""


def listening(code, after=0.0):
    return [sys.executable, "-S", "-c", LISTENING.format(code=code, after=after)]


class Task:
    """The script in a process, with `bash -c COMMAND` in fedsim's place."""

    def __init__(self, folder, command, state="RUNNING", restarts=0, array="9"):
        folder.mkdir()
        self.folder = folder
        scontrol = folder / "scontrol"
        scontrol.write_text(SCONTROL)
        scontrol.chmod(0o755)
        script = folder / "job.sh"
        script.write_text(batch(SlurmConfig(), replace(JOB, folder=folder, place=folder, command=command)))
        self.process = subprocess.Popen(
            ["bash", str(script)],
            env=os.environ
            | {"PATH": f"{folder}:{os.environ['PATH']}", "STATE": state, "SLURM_ARRAY_TASK_ID": "2"}
            | {"SLURM_ARRAY_JOB_ID": array, "SLURM_RESTART_COUNT": str(restarts)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def until_exists(self, name):
        end = time.monotonic() + 600
        while not (self.folder / name).exists():
            assert time.monotonic() < end, name
            time.sleep(0.02)

    def end(self):
        """(exit code, what it printed, what scontrol was asked to do)."""
        out, _ = self.process.communicate(timeout=600)
        path = self.folder / "scontrol.asked"
        return self.process.returncode, out, path.read_text().splitlines()[1:] if path.exists() else []


def test_a_task_is_queued_again_where_something_is_left(tmp_path):
    bash = {
        "done": Task(tmp_path / "done", ["bash", "-c", 'echo "$*"', "fedsim"]),
        "wrong": Task(tmp_path / "wrong", ["bash", "-c", "exit 2"]),
        "left": Task(tmp_path / "left", ["bash", "-c", "exit 3"]),
        "killed": Task(tmp_path / "killed", ["bash", "-c", "kill -9 $$"]),
        "often": Task(tmp_path / "often", ["bash", "-c", "kill -9 $$"], restarts=3),
        "warned": Task(tmp_path / "warned", listening(3)),
        "torn": Task(tmp_path / "torn", listening(1)),
        "cancelled": Task(tmp_path / "cancelled", listening(3), state="CANCELLED"),
        "here": Task(tmp_path / "here", listening(3), array="local"),
        "early": Task(tmp_path / "early", listening(3, after=1.0)),
    }
    for name, number in {
        "warned": signal.SIGUSR1, "torn": signal.SIGTERM, "cancelled": signal.SIGTERM,
        "here": signal.SIGUSR1, "early": signal.SIGUSR1,
    }.items():  # fmt: skip
        bash[name].until_exists("begun" if name == "early" else "ready")
        bash[name].process.send_signal(number)
    ended = {name: task.end() for name, task in bash.items()}
    again = ["requeue 9_2"]
    assert ended["done"] == (0, f"--cells {tmp_path}/done/tasks.txt#2\n", [])
    assert ended["wrong"] == (2, "", [])
    assert ended["left"][2] == ended["killed"][2] == ended["warned"][2] == ended["torn"][2] == again
    assert "task 2: killed by signal 9; queued again" in ended["killed"][1]
    # It did not listen yet when it was warned; it is told again until it does.
    assert ended["early"][2] == again
    assert ended["often"][0] == 137 and ended["often"][2] == []
    assert ended["cancelled"][0] == 3 and ended["cancelled"][2] == []
    assert ended["here"][0] == 3 and ended["here"][2] == []


# --- what the store asks -----------------------------------------------------------------------


def test_a_process_knows_its_job(monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert Slurm().here() == {}
    monkeypatch.setenv("SLURM_JOB_ID", "local_0")  # the same tasks on this machine
    assert Slurm().here() == {}
    monkeypatch.setenv("SLURM_JOB_ID", "14")
    assert Slurm().here() == {"job": "14", "restart": "0"}
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert Slurm().here() == {"job": "12_3", "restart": "2"}


@pytest.mark.parametrize(
    ("answer", "over"),
    [
        ("echo 'JobId=14 Restarts=1 JobState=RUNNING'", False),
        ("echo 'JobId=14 Restarts=1 JobState=COMPLETING'", False),
        ("echo 'JobId=14 Restarts=1 JobState=CANCELLED'", True),
        ("echo 'JobId=14 Restarts=2 JobState=RUNNING'", True),  # that is its next life
        ("echo 'JobId=14 Restarts=2 JobState=PENDING'", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", True),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", False),
    ],
)
def test_a_job_is_over_where_slurm_says_so(tmp_path, monkeypatch, answer, over):
    program = tmp_path / "scontrol"
    program.write_text(f"#!/bin/bash\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert Slurm().is_over({"job": "12_3", "restart": "1"}) is over


def test_without_slurm_no_job_is_over(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not Slurm().is_over({"job": "12_3", "restart": "1"})


# --- on this machine -------------------------------------------------------------------------


def job(folder, text):
    (folder / "logs").mkdir()
    path = folder / "job.sh"
    path.write_text(f"cd {folder}\n{text}\n")
    return path


def test_tasks_run_here_as_an_array_would(tmp_path):
    script = job(
        tmp_path,
        "echo $SLURM_ARRAY_JOB_ID $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT, $SLURM_RESTART_COUNT\n"
        "if [[ $SLURM_ARRAY_TASK_ID == 1 && $SLURM_RESTART_COUNT == 0 ]]; then kill -9 $$; fi\n"
        "exit $SLURM_ARRAY_TASK_ID",
    )
    ended = sorted(run_here(script, 3, workers=2, retries=1, stopped=lambda: False))
    assert ended == [(0, 0, ""), (1, 1, "local 1 of 3, 1"), (2, 2, "local 2 of 3, 0")]
    said = [(tmp_path / "logs" / f"local_{i}.out").read_text() for i in range(3)]
    assert said == ["local 0 of 3, 0\n", "local 1 of 3, 0\nlocal 1 of 3, 1\n", "local 2 of 3, 0\n"]


def test_who_stops_warns_the_tasks_and_starts_no_more(tmp_path):
    script = job(tmp_path, "trap 'exit 3' USR1; touch $SLURM_ARRAY_TASK_ID; while :; do sleep 0.05; done")
    begun = [tmp_path / "0", tmp_path / "1"]
    ended = run_here(script, 5, workers=2, retries=3, stopped=lambda: all(path.exists() for path in begun))
    assert sorted(ended) == [(0, 3, ""), (1, 3, "")]


def test_the_last_line_of_a_long_log_is_that_of_the_task(tmp_path):
    script = job(tmp_path, "for i in {1..2000}; do echo $i; done; echo 'fedsim: Örebro'; echo; exit 1")
    assert list(run_here(script, 1, workers=1, retries=0, stopped=lambda: False)) == [
        (0, 1, "fedsim: Örebro")
    ]


# --- tasks.txt and options -------------------------------------------------------------------


def test_tasks_are_read_back(tmp_path):
    path = tmp_path / "tasks.txt"
    path.write_text(tasks.text([["a1", "b2"], ["c3"]], {"a1": "seed=0", "b2": "region=Örebro län", "c3": ""}))
    assert tasks.read(path) == {0: ["a1", "b2"], 1: ["c3"]}
    assert tasks.of(f"{path}#1") == ["c3"]
    for where, said in {
        f"{path}#2": "has no task 2, only 0 to 1",
        f"{path}#x": "must be FILE#TASK",
        f"{tmp_path}/no.txt#0": "cannot be read",
    }.items():
        with pytest.raises(RequestError, match=said):
            tasks.of(where)
    path.write_text("0 a1\nnonsense\n")
    with pytest.raises(RequestError, match="line 2: expected the number of a task"):
        tasks.read(path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tasks": 0}, "slurm.tasks must be >= 1, got 0"),
        ({"gpus": -1}, "slurm.gpus must be >= 0, got -1"),
        ({"time": "90"}, "slurm.time must be like 30:00"),
        ({"memory": "8GB"}, "slurm.memory must be a whole number and K, M, G or T"),
        ({"signal_seconds": 1 << 16}, r"slurm.signal_seconds must be in \[0, 65535\]"),
        ({"partition": "a\nb"}, "slurm.partition must be one line"),
        ({"extra": ("exclusive",)}, "slurm.extra holds options of sbatch"),
        ({"executor": "local", "nodes": 2}, "slurm.executor=local has one node"),
    ],
)
def test_options_have_ranges(given, said):
    with pytest.raises(RequestError, match=said):
        SlurmConfig(**given)
