# mypy: disable-error-code="index, arg-type, operator"
"""Intervals over patients: of draws by hand, paired, and as wide as theory says."""

import numpy as np
import pytest

from fedsim import metrics, report
from fedsim.base import RequestError
from fedsim.report import gain, paired, patients
from fedsim.report import spec as declared
from fedsim.report.intervals import DRAWS
from fedsim.report.stored import Stored
from tests.report.made import build, cells

N = 240
WHO = [f"h{i % 3}" for i in range(N)]


def predicted(seed, strength=1.5, label=None, **more):
    rng = np.random.default_rng(seed)
    label = np.random.default_rng(99).integers(0, 2, N) if label is None else label
    score = 1 / (1 + np.exp(-(strength * (label - 0.5) + rng.normal(size=N))))
    return {
        "round": np.full(N, 1, np.int32),
        "replica": np.zeros(N, np.int32),
        "set": ["test"] * N,
        "client": WHO,
        "row": np.arange(N),
        "label": label.astype(np.int32),
        "score": score.astype(np.float32),
    } | more


def store(put, algorithms=("local", "fedavg"), seeds=2, **more):
    runs = []
    for a, algorithm in enumerate(algorithms):
        for seed in range(seeds):
            held = predicted(100 * seed, 1 + a, **more)
            found = metrics.evaluate("binary", held["label"], held["score"], thresholds=[0.3])
            sizes = {"n": N, "positives": int(np.sum(held["label"]))}
            runs.append(put({"algorithm": algorithm, "seed": seed}, [found | sizes], predictions=held))
    return runs


NAMES = (
    "auroc",
    "auprc",
    "brier",
    "log_loss",
    "accuracy",
    "o_e",
    "net_benefit_0.3",
    "net_benefit_all_0.3",
    "ece",
)


@pytest.mark.parametrize("weigh", [False, True])
def test_many_draws_at_once_are_the_metrics_of_each(weigh):
    rng = np.random.default_rng(7)
    held = predicted(3)
    stored = Stored(
        "binary", held["label"].astype(float), np.round(held["score"], 1).astype(float), None, None, None,
        np.array(WHO), np.arange(N), None,
    )  # fmt: skip
    w = rng.integers(0, 3, (5, N)) * (rng.random(N) if weigh else 1.0)
    w[4, stored.label == 1] = 0.0  # one class is not drawn
    found = patients.evaluate(stored, w, NAMES)
    for k in range(5):
        wanted = metrics.evaluate("binary", stored.label, stored.score, w[k], thresholds=[0.3])
        for name in NAMES:
            if wanted[name] is None:
                assert np.isnan(found[name][k]), name
            else:
                assert found[name][k] == pytest.approx(wanted[name], abs=1e-10), name


def test_the_interval_is_of_draws_within_clients(put, tmp_path):
    runs = store(put, ["fedavg"], seeds=1)
    table = build(tmp_path, runs, interval="patients", metrics=["brier", "ece"])
    cell = cells(table)["fedavg", "brier"]
    held = predicted(0, 1)
    error = (held["score"].astype(float) - held["label"]) ** 2
    assert cell.mean == pytest.approx(error.mean())
    # The standard error of a mean of strata, each drawn with its own variance.
    within = [error[np.array(WHO) == h] for h in ("h0", "h1", "h2")]
    sd = np.sqrt(sum(e.var() / len(e) * (len(e) / N) ** 2 for e in within))
    assert cell.high - cell.low == pytest.approx(2 * 1.96 * sd, rel=0.07)
    assert "bootstrap over patients within clients" in table.notes[0]
    ece = cells(table)["fedavg", "ece"]
    assert ece.low < ece.high
    again = cells(build(tmp_path, runs, interval="patients", metrics=["brier"]))["fedavg", "brier"]
    assert (again.low, again.high) == (cell.low, cell.high)


def test_seeds_are_drawn_too(put, tmp_path):
    runs = store(put, ["fedavg"], seeds=5)
    width = {}
    for interval in ("patients", "both"):
        cell = cells(build(tmp_path, runs, interval=interval))["fedavg", "auroc"]
        width[interval] = cell.high - cell.low
    assert width["both"] > width["patients"]


def test_differences_are_paired_by_patient(put, tmp_path):
    runs = store(put)
    table = build(tmp_path, runs, interval="patients", reference={"algorithm": "local"})
    (difference,) = table.differences.values()
    local, fedavg = (cells(table)[a, "auroc"] for a in ("local", "fedavg"))
    assert difference.mean == pytest.approx(fedavg.mean - local.mean)
    apart = np.hypot(fedavg.high - fedavg.low, local.high - local.low)
    assert 0 < difference.high - difference.low < 0.8 * apart
    assert difference.p == pytest.approx(2 / (1 + DRAWS)) == difference.corrected
    assert any("twice the smaller share of resamples" in note for note in table.notes)
    same = {"algorithm": ["local", "fedavg"]}
    runs = [
        put({"algorithm": a, "seed": 9}, [{"auroc": 0.5}], predictions=predicted(1))
        for a in same["algorithm"]
    ]
    (difference,) = build(
        tmp_path, runs, interval="patients", reference={"algorithm": "local"}
    ).differences.values()
    assert difference.low == difference.high == 0 and difference.p == 1


def test_patients_who_were_drawn_apart_are_drawn_again_apart(put, tmp_path):
    runs = {}
    for name, seeds in {"same": (1, 1), "new": (1, 2)}.items():
        runs[name] = [
            put({"algorithm": name, "seed": s}, [{"brier": 0.2}], predictions=predicted(5),
                experiment={"data": {"seed": d}})
            for s, d in enumerate(seeds)
        ]  # fmt: skip
    widths = {}
    for name, stored in runs.items():
        cell = cells(build(tmp_path, stored, interval="patients", metrics=["brier"]))[name, "brier"]
        widths[name] = cell.high - cell.low
    # The mean over two samples of patients, and not twice over one.
    assert widths["new"] / widths["same"] == pytest.approx(np.sqrt(0.5), rel=0.08)


@pytest.mark.parametrize("method", ["patients", "both"])
def test_methods_are_compared_as_in_a_table(put, tmp_path, method):
    """Two others against local: each as in a table of the pair, and p-values corrected over both."""
    runs = store(put, ("local", "fedavg", "fedprox"))
    asked = report.read(tmp_path / "store", runs, levels=["pooled"]), "algorithm", "local", ["auroc", "brier"]
    found = {(d.choice, d.metric): d for d in patients.compared(*asked, method=method)}
    assert found.keys() == {(a, m) for a in ("fedavg", "fedprox") for m in ("auroc", "brier")}
    table = build(
        tmp_path, runs, interval=method, reference={"algorithm": "local"}, metrics=["auroc", "brier"]
    )
    shown = {(d.choice, d.metric): d for d in table.differences.values()}
    for key, difference in found.items():
        other = shown[key]
        assert (difference.mean, difference.low, difference.high, difference.p, difference.corrected) == (
            other.mean, other.low, other.high, other.p, other.corrected
        )  # fmt: skip
        assert difference.corrected >= difference.p
    over_seeds = {(d.choice, d.metric): d for d in paired.differences(*asked)}
    assert all(found[key].mean == pytest.approx(over_seeds[key].mean) for key in found)
    with pytest.raises(RequestError, match="pooled or by client, got site"):
        patients.compared(*asked, level="site", method=method)


@pytest.mark.parametrize("metric", ["brier", "o_e"])
def test_gains_of_figures_are_over_patients(put, tmp_path, metric):
    """As in a table by client, with the sign of an improvement; of a target, how much closer."""
    runs = []
    for a, algorithm in enumerate(("local", "fedavg")):
        for seed in range(2):
            held = predicted(100 * seed, 1 + a)
            clients = []
            for h in ("h0", "h1", "h2"):
                mine = np.array(WHO) == h
                found = metrics.evaluate("binary", held["label"][mine], held["score"][mine])
                clients.append({"group": "client", "name": h, "n": 80} | found)
            runs.append(put({"algorithm": algorithm, "seed": seed}, clients=clients, predictions=held))
    spec = declared.FigureSpec(name="f", kind="gain", metric=metric, level="client", interval="patients")
    rows = report.read(tmp_path / "store", runs, levels=["client"])
    pairs = gain.gains(rows, spec)
    ends = gain.intervals(rows, spec, pairs)
    assert ends.keys() == {(h, "fedavg") for h in ("h0", "h1", "h2")}
    for (site, _), (mean, low, high) in ends.items():
        assert mean == pytest.approx(np.mean([p[2] for p in pairs[site, "fedavg"].values()]))
        assert low < mean < high or metric == "o_e"
    if metric == "brier":
        more = {"level": "client", "columns": "client", "metrics": ["brier"], "interval": "patients"}
        table = build(tmp_path, runs, reference={"algorithm": "local"}, **more)
        for d in table.differences.values():
            low, high = ends[d.where["client"], "fedavg"][1:]
            assert (low, high) == pytest.approx((-d.high, -d.low), abs=1e-12)
    with pytest.raises(RequestError, match="use kind: gain or size with from: client"):
        declared.FigureSpec(name="f", kind="gain", interval="patients")


def test_rows_of_one_patient_are_drawn_together(put, tmp_path):
    alone, pairs = (
        put({"algorithm": a, "seed": 0}, [{"brier": 0.2}], predictions=predicted(0, **more))
        for a, more in (("rows", {}), ("patients", {"patient": np.arange(N) // 12}))
    )
    width = {}
    for run in (alone, pairs):
        (cell,) = cells(build(tmp_path, [run], interval="patients", metrics=["brier"])).values()
        width[run] = cell.high - cell.low
    assert width[alone] != width[pairs]


def test_clients_are_drawn_apart(put, tmp_path):
    held = predicted(0)
    here = np.array(WHO) == "h1"
    values = [{"group": "client", "name": h, "n": 80, "brier": 0.2} for h in ("h0", "h1", "h2")]
    run = put({"algorithm": "fedavg", "seed": 0}, clients=values, predictions=held)
    more = {"level": "client", "columns": "client", "metrics": ["brier"], "interval": "patients"}
    cell = cells(build(tmp_path, [run], **more))["fedavg", "h1", "brier"]
    error = ((held["score"].astype(float) - held["label"]) ** 2)[here]
    assert cell.high - cell.low == pytest.approx(2 * 1.96 * error.std() / np.sqrt(80), rel=0.1)


def test_survival_by_a_horizon(put, tmp_path):
    rng = np.random.default_rng(0)
    risk, time = rng.random(N), rng.uniform(1, 9, N)
    held = predicted(0) | {"time": time, "risk": risk, "score": np.log(-np.log1p(-risk))}
    held["event"] = held.pop("label")
    run = put({"algorithm": "fedavg", "seed": 0}, [{"c_index": 0.5, "brier_t": 0.3}], predictions=held)
    config = tmp_path / "store" / run / "config.yaml"
    config.write_text(config.read_text() + "evaluate: {horizon: 5.0}\n")
    found = cells(build(tmp_path, [run], interval="patients", metrics=["c_index", "brier_t"]))
    for cell in found.values():
        assert cell.low < cell.high


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"level": "site", "columns": "site"}, "use from: pooled or client"),
        ({"round": 1}, "draws stored predictions again"),
        ({"metrics": ["seconds"]}, "seconds does not follow from stored predictions"),
    ],
)
def test_what_cannot_be_drawn_is_refused(put, tmp_path, table, words):
    run = put({"algorithm": "fedavg", "seed": 0}, [{"auroc": 0.5, "seconds": 2.0}], predictions=predicted(0))
    with pytest.raises(RequestError, match=words):
        build(tmp_path, [run], **{"interval": "patients"} | table)


def test_runs_without_predictions_are_named(put, tmp_path):
    run = put({"algorithm": "fedavg", "seed": 0}, [{"auroc": 0.5}])
    with pytest.raises(RequestError, match="kept no predictions"):
        build(tmp_path, [run], interval="patients")
