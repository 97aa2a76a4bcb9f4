"""fedsim timeline finds the runs it is asked for."""

import re


def test_a_run_the_newest_and_an_experiments(fedsim, engine, tiny, here):
    assert fedsim("run").code == fedsim("run system=lognormal seed=5").code == 0
    newest = fedsim("timeline")
    assert newest.code == 0 and len(newest.out.split()) == 4
    png = newest.out.split()[0]
    assert png.startswith(str(here / "results" / "timelines")) and png.endswith(".png")
    run = png.rsplit("/")[-1].removesuffix(".png")
    assert fedsim(f"timeline {run} --to elsewhere").out.split()[0] == f"elsewhere/{run}.png"

    assert fedsim("sweep tiny system=lognormal").code == 0
    drawn = fedsim("timeline tiny system=lognormal --to tiny_timelines").out.split()
    assert len(drawn) == len(set(drawn)) == 4 * 4
    assert b"algorithm=fedavg, seed=2" in b"".join(
        p.read_bytes() for p in (here / "tiny_timelines").glob("*.svg")
    )


def test_what_cannot_be_drawn(fedsim, engine, tiny):
    for line, said in (
        ("timeline", "no run in .* has a timeline; run one with system=lognormal"),
        ("timeline nope", "no experiment 'nope'"),
        ("timeline tiny", "no run of tiny has a timeline"),
        ("timeline --rounds 0", "--rounds must be >= 1, got 0"),
        ("timeline a b", "one run or experiment at a time, got a b"),
    ):
        found = fedsim(line)
        assert found.code == 2 and re.search(said, found.err), found.err
    assert fedsim("run").code == 0
    (run,) = (p.name for p in (tiny.parents[1] / "results" / "store").iterdir() if p.name[0] != ".")
    assert f"run {run} has no timeline" in fedsim(f"timeline {run}").err
    assert "only results= goes with a run, got seed=1" in fedsim(f"timeline {run} seed=1").err
