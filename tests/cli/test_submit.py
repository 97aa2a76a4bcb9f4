"""fedsim submit, with a made-up sbatch and squeue."""

import os
import stat

import pytest

from fedsim.cli import submit
from fedsim.cli.submit import settings
from fedsim.config.slurm import SlurmConfig
from fedsim.store import checkpoint

CHECK_CELLS = submit._check_cells


@pytest.fixture
def checked(monkeypatch):
    """How many cells were looked at before each submission; test_a_cell_that_cannot_be_run_... does look."""
    counts: list[int] = []
    monkeypatch.setattr(submit, "_check_cells", lambda cells, modules: counts.append(len(cells)))
    return counts


@pytest.fixture
def slurm(tmp_path, monkeypatch, checked):
    """Programs on the PATH: name -> the bash that it runs."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def program(name, text):
        path = folder / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    program("sbatch", f"echo $* >> {tmp_path}/asked; echo 4711")
    program("squeue", "")
    program("sinfo", "printf 'short\\nlong\\n'")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return program


def folder_of(here):
    (found,) = (here / "results" / "tiny" / "slurm").iterdir()
    return found


def test_what_is_missing_is_submitted(fedsim, engine, tiny, here, slurm, checked):
    assert fedsim("sweep tiny algorithm=local").code == 0
    said = fedsim("submit tiny slurm.tasks=2 slurm.partition=short")
    assert said.code == 0, said.err
    assert checked == [3]  # those of FedAvg: a run of `local` is done, so that it can be run
    first, second = said.out.splitlines()
    assert first == "4 cells: 1 done, 3 missing, 3 to run in 2 tasks"
    folder = folder_of(here)
    assert second == f"results/tiny/slurm/{folder.name}/job.sh: submitted as job 4711"
    assert (here / "asked").read_text() == f"--parsable {folder}/job.sh\n"
    assert (folder / "jobs.txt").read_text() == "4711\n" and (folder / "logs").is_dir()
    lines = (folder / "tasks.txt").read_text().splitlines()[1:]
    assert {line.split(maxsplit=2)[2] for line in lines} == {f"algorithm=fedavg, seed={i}" for i in range(3)}
    script = (folder / "job.sh").read_text()
    assert "#SBATCH --partition=short\n" in script and f" sweep {folder}/sweep.yaml)\n" in script
    assert "# fedsim submit tiny slurm.tasks=2 slurm.partition=short\n" in script
    # A task does its own cells, by the same planner, and writes no tables.
    count = sum(line.startswith("0 ") for line in lines)
    said = fedsim(f"sweep {folder}/sweep.yaml --cells {folder}/tasks.txt#0")
    assert said.out.startswith(f"{count} cells: {count} to run\n") and len(engine.asked[-1].cells) == count


def test_what_is_queued_is_not_submitted_again(fedsim, engine, tiny, here, slurm):
    assert fedsim("submit tiny slurm.tasks=2").code == 0
    folder = folder_of(here)
    job = f"fedsim-tiny-{folder.name}"
    of_first = sum(line.startswith("0 ") for line in (folder / "tasks.txt").read_text().splitlines())
    slurm("squeue", f"printf '{job}|4711|0|RUNNING|n1\\n{job}|4711|1|PENDING|\\nother|9|0|RUNNING|n1\\n'")
    assert fedsim("submit tiny").out == "4 cells: 4 missing, 4 queued or running, nothing to submit\n"
    said = fedsim("status tiny")
    assert (
        said.code == 3 and "tiny: 4 cells: 0 done, 4 queued" in said.out and "job 4711_1, pending" in said.out
    )
    slurm("squeue", f"printf '{job}|4712|0|RUNNING|n1\\n'")  # by hand: another number, the same name
    left = 4 - of_first
    assert f"{of_first} queued or running, {left} to run in" in fedsim("submit tiny --dry-run").out


def test_runs_with_a_checkpoint_stay_together(fedsim, engine, tiny, here, slurm):
    assert fedsim("submit tiny slurm.tasks=2").code == 0
    rows = [line.split() for line in (folder_of(here) / "tasks.txt").read_text().splitlines()[1:]]
    runs = [row[1] for row in rows if row[3:] and row[2] == "algorithm=fedavg," and row[0] == rows[0][0]]
    assert len(runs) > 1
    checkpoint.save(checkpoint.stem_of(here / "results" / "store", runs, "final"), {}, {})
    shown = fedsim("submit tiny --dry-run slurm.tasks=4").out.split("# task, run, cell\n")[1]
    of = {line.split()[1]: line.split()[0] for line in shown.splitlines()[:4]}
    assert len(of) == 4 and len({of[run] for run in runs}) == 1
    assert not {of[run] for run in runs} & {task for run, task in of.items() if run not in runs}


def test_a_dry_run_shows_all_and_does_nothing(fedsim, engine, tiny, here, slurm):
    said = fedsim("submit tiny --dry-run --reduced slurm.tasks=2 slurm.account=heart rounds=7")
    assert said.code == 0 and not (here / "results").exists() and not (here / "asked").exists()
    assert said.out.startswith("2 cells: 2 missing, 2 to run in 2 tasks\n")
    for shown in ("/sweep.yaml\n", "/tasks.txt\n", "/job.sh\n", "#SBATCH --account=heart\n", "seed=0\n"):
        assert shown in said.out
    assert "sweep.yaml --reduced rounds=7)\n" in said.out


def test_slurms_words_are_shown(fedsim, engine, tiny, here, slurm, monkeypatch):
    refused = (
        "sbatch: error: invalid partition specified: x\\nsbatch: error: Batch job submission failed: No\\n"
    )
    slurm("sbatch", f"printf '{refused}' >&2; exit 1")
    said = fedsim("submit tiny slurm.partition=x")
    assert said.code == 2 and len(said.err.splitlines()) == 1
    assert (
        "invalid partition specified: x; Batch job submission failed: No; partitions here: long, short"
        in said.err
    )
    slurm("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    said = fedsim("submit tiny")
    assert said.code == 2 and "SLURM does not answer: slurm_load_jobs error: Unable to contact" in said.err
    monkeypatch.setenv("PATH", str(here))
    said = fedsim("submit tiny")
    assert said.code == 2 and "there is no SLURM here" in said.err and "slurm.executor=local" in said.err


def test_options_come_from_a_file_and_from_overrides(here):
    (here / "site.yaml").write_text('partition: long\ntime: "8:00:00"\ngpus: 1\nmodules: [cuda]\n')
    cfg, rest = settings(["slurm=site.yaml", "seed=1", "slurm.gpus=2", "slurm.partition=a,b"])
    assert cfg == SlurmConfig(partition="a,b", time="8:00:00", gpus=2, modules=("cuda",)) and rest == [
        "seed=1"
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("slurm.partitoin=x", "unknown option slurm.partitoin; choose one of"),
        ("slurm.gpus=two", "slurm.gpus must be a whole number, got 'two'"),
        ("slurm=no.yaml", "slurm=no.yaml cannot be read (No such file or directory)"),
        ("slurm.nodes=2", "slurm.nodes=2 needs executor=ray; executor=inline works on one node"),
        ("slurm.extra=-x", "slurm.extra must be a list"),
    ],
)
def test_a_wrong_option_is_named(fedsim, engine, tiny, slurm, given, said):
    found = fedsim(f"submit tiny {given}")
    assert found.code == 2 and said in found.err and len(found.err.splitlines()) == 1


def test_tasks_of_another_sweep_are_refused(fedsim, engine, tiny, here, slurm):
    assert fedsim("submit tiny slurm.tasks=1").code == 0
    said = fedsim(f"sweep tiny rounds=9 --cells {folder_of(here)}/tasks.txt#0")
    assert said.code == 2 and "4 of 4 cells of" in said.err and "submit it again" in said.err


def test_several_nodes_get_the_launcher(fedsim, engine, tiny, here, slurm):
    assert fedsim("submit tiny slurm.nodes=2 executor=ray slurm.tasks=1").code == 0
    folder = folder_of(here)
    script = (folder / "job.sh").read_text()
    assert f"command=(bash {folder}/ray.sh " in script and " -- " in script and "--nodes=2\n" in script
    assert (folder / "ray.sh").read_text().startswith("#!/bin/bash\n# Ray over the nodes")


def test_the_same_tasks_on_this_machine(fedsim, engine, tiny, here, monkeypatch):
    """The script runs; what it calls in fedsim's place stores nothing, and that is said."""
    said = fedsim("submit tiny slurm.executor=local slurm.workers=2 slurm.tasks=2 slurm.command=/bin/true")
    assert said.code == 1 and "task 0: done\n" in said.out and "task 1: done\n" in said.out
    assert said.out.endswith("4 cells: 4 missing\n")


def test_a_cell_that_cannot_be_run_is_named_before_anything_is_submitted(
    fedsim, tiny, here, slurm, monkeypatch
):
    monkeypatch.setattr(submit, "_check_cells", CHECK_CELLS)
    said = fedsim("submit tiny algorithm=fedavg,fedbn")
    assert said.code == 2 and "algorithm=fedbn" in said.err and "set task.batch_norm=true" in said.err
    assert said.err.count("\n") == 1 and not (here / "asked").exists()
    assert not (here / "results" / "tiny").exists()


def killed(cells):
    os._exit(9)


def test_a_look_that_is_killed_is_said(fedsim, tiny, here, slurm, monkeypatch):
    monkeypatch.setattr(submit, "_check_cells", CHECK_CELLS)
    monkeypatch.setattr(submit, "_wrong", killed)
    said = fedsim("submit tiny")
    assert said.code == 1 and "looks at cells before they are submitted was killed" in said.err
    assert said.err.count("\n") == 1 and not (here / "asked").exists()
