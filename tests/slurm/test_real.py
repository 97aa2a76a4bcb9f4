"""On a real SLURM: whatever happens to tasks, every cell is stored once, to the same bits."""

import os
import random
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.slurm.cluster import until

pytestmark = pytest.mark.long

LATEST = 300  # seconds; far more than anything takes on two idle cores


def whole(there, models):
    """Every cell stored once, with the model of an undisturbed sweep."""
    assert there.stored == dict.fromkeys(models, 1), there.said
    assert there.models == models
    assert there.fedsim("status", "small", "--quiet").out == "small: 24 cells: 24 done\n"


def slowed(there, seconds_a_round=0.03):
    there.slow(seconds_a_round)
    return there


def saved(there):
    """Whether some task has saved a checkpoint."""
    return any(there.folder.glob("results/store/.checkpoints/*"))


def commands(real, node=None):
    """Processes of tasks that are fedsim's, not the script's."""
    return [pid for pid, line in real.processes(node).items() if "fedsim.cli sweep" in line]


@pytest.mark.usefixtures("running_out")  # its minutes pass during the other tests
def test_an_array_on_two_nodes(on, real, undisturbed):
    said = on.submit("slurm.tasks=4", "slurm.partition=low", "slurm.throttle=3")
    assert "24 cells: 24 missing, 24 to run in 4 tasks" in said.out and "submitted as job" in said.out
    again = on.submit("slurm.tasks=4")
    assert "24 queued or running, nothing to submit" in again.out
    real.finish(LATEST)
    whole(on, undisturbed)
    ended = (real.root / "log" / "ended.txt").read_text()
    assert "NodeList=n0" in ended and "NodeList=n1" in ended
    assert on.submit().out == "24 cells: 24 done, nothing to submit\n"


def test_a_task_gives_way_and_goes_on_from_there(on, real, undisturbed):
    slowed(on).submit("slurm.tasks=2", "slurm.partition=low")
    until(lambda: saved(on), "training", LATEST)
    high = ("--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    real.call("sbatch", *high)
    until(lambda: "queued again" in on.said, "warned", LATEST)
    real.finish(LATEST)
    whole(on, undisturbed)
    assert "exit code 3 after a warning" in on.said and "resuming at round" in on.said


def test_a_task_that_is_queued_again_goes_on(on, real, undisturbed):
    slowed(on).submit("slurm.tasks=1")
    until(lambda: saved(on), "training", LATEST)
    (element,) = real.jobs()
    real.call("scontrol", "requeue", element)
    real.finish(LATEST)
    whole(on, undisturbed)
    assert "resuming at round" in on.said


def test_a_node_is_lost(on, real, undisturbed):
    """Its daemon is gone and its job's processes are not: they keep their claims, or lose them first."""
    slowed(on).submit("slurm.tasks=2")
    until(lambda: saved(on), "training", LATEST)
    node = next(name for name in real.names if commands(real, name))
    real.kill(node)
    try:
        until(lambda: "down" in real.states().values(), "the node is down", LATEST)
        for pid in commands(real, node):
            os.kill(pid, signal.SIGKILL)
        real.finish(LATEST)
    finally:
        real.start(node)
    whole(on, undisturbed)
    until(lambda: set(real.states().values()) == {"idle"}, "the node is back", LATEST)


def test_a_killed_task_begins_again_by_itself(on, real, undisturbed):
    slowed(on).submit("slurm.tasks=1", "slurm.retries=1")  # the one that has saved
    until(lambda: saved(on), "training", LATEST)
    os.kill(commands(real)[0], signal.SIGKILL)
    real.finish(LATEST)
    whole(on, undisturbed)
    assert "killed by signal 9; queued again" in on.said and "resuming at round" in on.said


def test_a_fifth_of_tasks_is_killed(on, real, undisturbed):
    """At random moments, the script or what it runs; the second submission does what is left."""
    draw = random.Random(0)
    slowed(on, 0.01).submit("slurm.tasks=10", "slurm.retries=1")
    until(lambda: commands(real), "a task runs", LATEST)
    killed = 0
    while killed < 2:
        time.sleep(draw.uniform(0.5, 3.0))
        lines = real.processes()
        alive = sorted(p for p in lines if "fedsim.cli" in lines[p] or "slurm_script" in lines[p])
        if alive:
            with suppress(ProcessLookupError):
                os.kill(draw.choice(alive), signal.SIGKILL)
                killed += 1
    real.finish(LATEST)
    on.submit("slurm.tasks=10")
    real.finish(LATEST)
    whole(on, undisturbed)


def test_what_is_cancelled_is_not_queued_again(on, real):
    slowed(on).submit("slurm.tasks=1")
    until(lambda: saved(on), "training", LATEST)
    (element,) = real.jobs()
    real.call("scancel", element)
    real.finish(LATEST)
    assert "queued again" not in on.said
    assert "24 cells: 24 missing, 24 to run in" in on.submit("--dry-run", "slurm.tasks=1").out


def test_a_full_disk(on, real, undisturbed, tmp_path):
    """Tasks fail with a sentence and keep what is whole; with room, the next submission does the rest."""
    store = tmp_path / "small-disk"
    store.mkdir()
    real.call("mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(store))
    try:
        on.submit("slurm.tasks=1", f"results={store}/store")
        real.finish(LATEST)
        said = " ".join(p.read_text() for p in store.glob("small/slurm/*/logs/*"))
        assert "could not be stored" in said and "No space left" in said and "Traceback" not in said
        kept = on.stored
        assert 0 < len(kept) < 24
        real.call("mount", "-o", "remount,size=40m", str(store))
        on.submit("slurm.tasks=1", f"results={store}/store")
        real.finish(LATEST)
        assert on.stored == dict.fromkeys(undisturbed, 1)
    finally:
        real.call("umount", str(store))


def raylets(real, node):
    return [pid for pid, line in real.processes(node).items() if "/raylet " in line]


def test_ray_over_two_nodes(on, real, undisturbed):
    """Joined with a token; the same bits, and nothing left behind."""
    said = on.submit("slurm.nodes=2", "slurm.tasks=1", "executor=ray", "algorithm=fedavg", "seed=0,1")
    assert "4 to run in 1 tasks" in said.out
    until(lambda: all(raylets(real, node) for node in real.names) or not real.jobs(), "Ray runs", LATEST)
    tokens = list(on.folder.glob("results/small/slurm/*/ray/*/token"))
    assert len(tokens) == 1, on.said
    (token,) = tokens
    assert stat.S_IMODE(token.stat().st_mode) == 0o600 and len(token.read_text()) == 64
    real.finish(LATEST)
    assert len(on.stored) == 4 and set(on.stored.values()) == {1}, on.said
    assert on.models.items() <= undisturbed.items()
    assert real.processes() == {} and not token.parent.exists()
    assert not Path(f"/tmp/fedsim-ray-{token.parent.name}").exists()


def test_a_task_whose_time_runs_out_goes_on(running_out, undisturbed):
    """It is warned half a minute to a minute before, and a task trains for longer than is left until then."""
    there = running_out.warned
    until(lambda: there.said.count("queued again") >= 2, "both are warned", LATEST)
    there.hurry()
    until(lambda: len(there.models) == len(undisturbed), "all cells are stored", LATEST)
    whole(there, undisturbed)
    assert there.said.count("exit code 3 after a warning") >= 2
    assert there.said.count("resuming at round") >= 2


def test_what_runs_out_of_time_without_a_warning_is_submitted_again(running_out, undisturbed):
    """SLURM ends it, to which a task listens, too: it saves, and its cells are there to be submitted."""
    there, real = running_out.unwarned, running_out.cluster
    real.finish(LATEST)
    ended = (real.root / "log" / "ended.txt").read_text().splitlines()
    mine = [line for line in ended if f"ArrayJobId={running_out.array} " in line]
    assert len(mine) == 2 and all("JobState=TIMEOUT" in line for line in mine)
    assert not there.models and "queued again" not in there.said and "Traceback" not in there.said
    there.hurry()
    there.submit("slurm.tasks=2")
    real.finish(LATEST)
    whole(there, undisturbed)
    assert there.said.count("resuming at round") == 2


def test_slurm_has_the_last_word(on, real):
    said = on.submit("slurm.partition=nowhere", check=False)
    assert said.code == 2 and "SLURM refuses" in said.err and "partitions here: high, low" in said.err
    said = on.submit("slurm.nodes=1", "slurm.cpus=64", check=False)
    assert said.code == 2 and "More processors requested than permitted" in said.err
    assert len(said.err.splitlines()) == 1 and not real.jobs()
