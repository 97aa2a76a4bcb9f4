# mypy: disable-error-code="arg-type, index, operator, union-attr"
"""Boosted trees from histograms: the forest of pooled rows, beside scikit-learn's, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score

from fedsim import config, data
from fedsim.algorithms.growing import splits
from fedsim.base import RequestError
from fedsim.config import HeartDisease, Preprocess
from fedsim.data.federation import Federation, gather
from fedsim.model import Boosted
from fedsim.plan import Cell
from fedsim.run import run_experiments
from fedsim.store import ResultStore
from fedsim.tasks.trees import REACH, ends
from tests.run.hospitals import BASE
from tests.simulate import small

LONG = ("regression", "float32")
FEATURES = 4
WIDE: dict[str, Any] = {"numerics": {"dtype": "float64", "x64": True, "block": None, "group": None}}
KEPT: dict[str, Any] = {"preprocess": {"scope": "federated", "impute": "keep"}}


def rows(n: int, kind: str = "binary", seed: int = 0, clients: int = 5, gone: float = 0.1) -> Federation:
    """Uneven clients whose labels hang on a product of two features and on whether a third is missing."""
    rng = np.random.default_rng(seed)
    owner = rng.choice(clients, n, p=rng.dirichlet(np.full(clients, 2.0)))
    x = rng.normal(size=(n, FEATURES)) * (1, 5, 1, 1) + (0, 40, 0, 0)
    x[:, 3] = np.round(x[:, 3])  # few values
    missing = rng.random(n) < gone
    eta = 3 * np.sign(x[:, 0] * (x[:, 1] - 40)) + 1.5 * missing
    x[missing, 2] = np.nan
    y = eta + (rng.logistic(size=n) if kind == "binary" else rng.normal(size=n))
    labels = (y > 0).astype(np.int32) if kind == "binary" else y.astype(np.float32)
    columns = {"x": x.astype(np.float32), "y": labels, "weight": rng.integers(0, 4, n).astype(np.float32)}
    classes = 2 if kind == "binary" else 0
    return of([f"region {k}" for k in owner], kind, classes, columns)


def of(owner: Any, kind: Any, classes: int, columns: dict[str, Any]) -> Federation:
    return gather(owner, columns, kind=kind, classes=classes, licence="none", source="test")


def grown(fed: Federation, trees: int, task: Any = (), rounds: int = 0, **changes: Any) -> small.Trained:
    """The forest that `trees` times `depth` rounds, and the first, grow."""
    forest: dict[str, Any] = {"name": "trees", "trees": trees, "depth": 3, "bins": 16, "l2": 1.0} | dict(task)
    changes = {"data": KEPT, "split": {"test": 0.3}} | changes
    every = rounds or 1 + trees * forest["depth"]
    e = small.experiment(**{"algorithm": "boosting", "task": forest, "rounds": every} | changes)
    return small.train([small.lane(e, fed)], fed)


@pytest.mark.parametrize("case", ["binary", "regression", "float32"])
def test_the_forest_is_that_of_pooled_rows(case: str) -> None:
    """algorithm=boosting and algorithm=pooled: the same splits, and leaves up to rounding."""
    kind = "regression" if case == "regression" else "binary"
    fed = rows(600, kind)
    with jax.enable_x64(case != "float32"):
        a, b = (
            grown(fed, 6, split={"test": 0.0}, algorithm=who, **({} if case == "float32" else WIDE))
            .models[0][0]
            .params
            for who in ("boosting", "pooled")
        )
    # Some float32 sums differ by more than what two splits of few rows gain.
    first = 2 if case == "float32" else 6
    for name in ("feature", "threshold", "missing"):
        np.testing.assert_array_equal(a[name][:first], b[name][:first])
    tolerance = 1e-4 if case == "float32" else 1e-11
    np.testing.assert_allclose(a["leaf"][:first], b["leaf"][:first], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(a["base"], b["base"], rtol=tolerance)
    assert len({*np.asarray(a["feature"]).ravel()}) > 1 and {*np.asarray(a["missing"]).ravel()} == {0, 1}


@pytest.mark.long
def test_each_client_alone_grows_what_a_federation_of_one_would() -> None:
    fed = rows(150, clients=2)
    scale = {"preprocess": {"scope": "client", "impute": "keep"}}
    own: dict[str, Any] = {"data": scale, "split": {"test": 0.0}, "world": "all"} | WIDE
    with jax.enable_x64(True):
        forests = small.own(grown(fed, 2, algorithm="local", **own), 0)
        for k, name in enumerate(fed.names):
            mine = slice(*fed.offsets[k : k + 2])
            one = of([name] * fed.sizes[k], "binary", 2, {n: x[mine] for n, x in fed.columns.items()})
            alone = grown(one, 2, **own).models[0][0].params
            for part, values in alone.items():
                np.testing.assert_allclose(forests[k].params[part], values, rtol=1e-11, atol=1e-13)
    assert np.any(forests[0].params["leaf"] != forests[1].params["leaf"])


def test_a_client_alone_grows_by_itself_as_in_a_federation() -> None:
    """Not side by side with others, where each round would do what only the first of all needs."""
    fed = rows(150, clients=6)
    forest = {"name": "trees", "trees": 2, "depth": 3, "bins": 16}
    found = []
    for who in ("local", "boosting"):
        numerics = {"block": None, "group": None}
        e = small.experiment(algorithm=who, task=forest, world="all", data=KEPT, numerics=numerics)
        found.append(small.engine([small.lane(e, fed)], fed).widths)
    assert found[0].block == found[1].block == 1
    # As much work, so that rounds are run, and shared out, in the same way.
    assert replace(found[0], memory=0) == replace(found[1], memory=0)


def test_a_run_says_how_many_trees_it_has_and_keeps_what_is_missing(tmp_path: Path) -> None:
    """A split of heart_disease's columns that some hospitals lack sends them somewhere, and a judged round
    counts trees by their levels."""
    forest = {"name": "trees", "trees": 2, "depth": 2, "bins": 8}
    kept = {"name": "heart_disease", "preprocess": {"impute": "keep"}}
    changes = {"data": kept, "task": forest, "algorithm": "boosting", "split": "natural", "rounds": 6}
    e = config.experiment(BASE | changes | {"evaluate": {"every": 1}})
    outcome = run_experiments([Cell(e, {})], tmp_path)
    store = ResultStore(tmp_path)
    (done,) = outcome.done
    found = store.read(done, "rounds").to_pydict()
    test = [k for k, (s, a) in enumerate(zip(found["set"], found["aggregate"], strict=True))
            if (s, a) == ("test", "pooled")]  # fmt: skip
    assert [found["round"][k] for k in test] == [1, 2, 3, 4, 5, 6]
    # Of bins alone there is no tree; beyond the last nothing grows.
    assert [found["trees_grown"][k] for k in test] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert found["log_loss"][test[4]] == found["log_loss"][test[5]] < found["log_loss"][test[0]]
    assert "trees_grown" not in store.manifest(done)["metrics"]["pooled"]
    x = data.load(e.data).columns["x"]
    assert np.isnan(x).any(axis=1).mean() > 0.5


def parts(trained: small.Trained, fed: Federation, lane: int = 0) -> tuple[Any, ...]:
    """(x, y, weights) of the training rows, the same of the test rows, and their scores."""
    part = trained.engine.lanes[lane].clients
    found: list[Any] = []
    for which in ("train", "test"):
        at, _ = part.part(which)
        found.append(tuple(fed.columns[name][at] for name in ("x", "y", "weight") if name in fed.columns))
    return *found, trained.scores()[lane]


def binned(trained: small.Trained, lane: int = 0) -> Any:
    """x -> the number of each value's bin, missing values staying, for trees that need no other."""
    edges, constants = trained.states[lane].server.growing.edges, trained.engine.lanes[lane].constants

    def coded(x: np.ndarray) -> np.ndarray:
        x = np.clip((x - constants.shift[0]) * constants.scale[0], -REACH, REACH)
        code = [np.searchsorted(e, values, side="left") for e, values in zip(edges, x.T, strict=True)]
        return np.where(np.isnan(x), np.nan, np.stack(code, axis=1))

    return coded


def theirs(kind: Any = HistGradientBoostingClassifier, **options: Any) -> Any:
    fixed: dict[str, Any] = {"max_leaf_nodes": None, "early_stopping": False, "min_samples_leaf": 1}
    return kind(**fixed, random_state=0, **options)


@pytest.mark.long
def test_interactions_are_found_as_scikit_learn_finds_them() -> None:
    fed = rows(3000)
    trained = grown(fed, 20)
    (x, y, weight), (x_test, y_test, _), score = parts(trained, fed)
    other = theirs(max_iter=20, max_depth=3, max_bins=16, l2_regularization=1.0).fit(x, y, weight)
    mine, reference = (roc_auc_score(y_test, s) for s in (score, other.predict_proba(x_test)[:, 1]))
    straight = LogisticRegression().fit(np.nan_to_num(x), y, weight)
    assert roc_auc_score(y_test, straight.predict_proba(np.nan_to_num(x_test))[:, 1]) < 0.65
    # Their bins are quantiles of rows alone, and lie elsewhere; a standard error on these rows is 0.01.
    assert mine > 0.9 and abs(mine - reference) < 0.01


@pytest.mark.long
def test_on_the_same_bins_scikit_learn_grows_as_good_a_forest() -> None:
    """Of a number, where other bins make other forests; a change of rounding may split a node elsewhere."""
    fed = rows(3000, "regression")
    trained = grown(fed, 20)
    (x, y, weight), (x_test, y_test, _), score = parts(trained, fed)
    coded, options = binned(trained), {"max_iter": 20, "max_depth": 3, "l2_regularization": 1.0}
    other = theirs(HistGradientBoostingRegressor, **options).fit(coded(x), y, weight)
    mine, reference = r2_score(y_test, score), r2_score(y_test, other.predict(coded(x_test)))
    assert mine > 0.4 and abs(mine - reference) < 1e-3


@pytest.mark.long
def test_heart_disease_as_scikit_learn_has_it() -> None:
    fed = data.load(HeartDisease(preprocess=Preprocess(impute="keep")))
    found = []
    for seed in range(5):
        trained = grown(fed, 40, seed=seed)
        train, test, score = parts(trained, fed)
        other = theirs(max_iter=40, max_depth=3, l2_regularization=1.0).fit(*train)
        found.append([roc_auc_score(test[1], s) for s in (score, other.predict_proba(test[0])[:, 1])])
    mine, reference = np.mean(found, axis=0)
    assert mine > 0.85 and abs(mine - reference) < 0.01, found


@pytest.mark.long
def test_missing_values_go_where_they_lower_the_loss() -> None:
    """The label is whether a value is missing: one split, which no filled-in value could make."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 2)).astype(np.float32)
    y = (rng.random(200) < 0.4).astype(np.int32)
    x[y == 1, 1] = np.nan
    fed = of([f"region {k % 3}" for k in range(200)], "binary", 2, {"x": x, "y": y})
    params = grown(fed, 1, {"depth": 1, "bins": 4}).models[0][0].params
    assert (params["feature"][0, 0], params["threshold"][0, 0], params["missing"][0, 0]) == (1, REACH, 0)
    low, high = params["leaf"][0]
    assert low < 0 < high


@pytest.mark.long
def test_rounds_beyond_the_last_tree_change_nothing() -> None:
    fed = rows(200)
    small.assert_same_bits(*(grown(fed, 2, rounds=r).states[0].server for r in (7, 9)))
    half = grown(fed, 2, rounds=5)
    assert np.any(half.models[0][0].params["leaf"][1]) and half.scores()[0].std() > 0
    assert half.states[0].server.growing.round == 5


@pytest.mark.long
def test_few_values_are_told_apart_however_rare() -> None:
    """One row in 400 has another value, which decides its label."""
    x = np.zeros((800, 2), np.float32)
    x[:, 0] = np.random.default_rng(0).normal(size=800)
    x[[5, 405], 1] = 1
    y = x[:, 1].astype(np.float32)
    fed = of([f"region {k % 4}" for k in range(800)], "regression", 0, {"x": x, "y": y})
    trained = grown(fed, 1, {"depth": 1, "bins": 8, "l2": 0.0}, split={"test": 0.0})
    params = trained.models[0][0].params
    assert params["feature"][0, 0] == 1
    np.testing.assert_allclose(np.ptp(params["leaf"][0]), 0.1, rtol=1e-4)


def test_the_grid_is_narrow_at_zero_which_is_no_end() -> None:
    grid = ends(64)
    assert len(grid) == 64 and grid[-1] == REACH and grid[0] == pytest.approx(-REACH)
    width = np.diff(grid)
    assert width.argmin() == 31 and grid[31] == pytest.approx(-grid[32])


def numbers(gamma: float = 0.0, min_child_weight: float = 1.0) -> Boosted:
    """What splits are judged by."""
    return Boosted(
        rows=lambda model, batch, growing: pytest.fail("no rows are asked for"),
        grid=ends(4),
        l2=0.5,
        learning_rate=0.1,
        gamma=gamma,
        min_child_weight=min_child_weight,
        depth=1,
        features=1,
        bins=2,
    )


def test_splits_by_hand() -> None:
    """Two bins and missing values: gains of all four ways to part them, eq. 7."""
    cells = np.array([[[[-3.0, 2.0], [2.0, 1.0], [4.0, 3.0]]]], np.float32)

    def gain(a: Any, b: Any) -> float:
        def score(s: Any) -> float:
            return float(s[0] ** 2 / (s[1] + 0.5))

        return (score(a) + score(b) - score(a + b)) / 2

    low, high, none = cells[0, 0]
    ways = {(0, 1): (low + none, high), (0, 0): (low, high + none), (1, 0): (low + high, none)}
    best = max(ways, key=lambda way: gain(*ways[way]))
    found = splits(jnp.asarray(cells), numbers())
    assert (int(found.bin[0]), int(found.missing[0])) == best == (0, 0)
    a, b = ways[best]
    np.testing.assert_allclose(found.values[0], [-a[0] / (a[1] + 0.5), -b[0] / (b[1] + 0.5)], rtol=1e-6)
    # Too light a side, or too small a gain, and all rows go to the first child.
    for other in (numbers(min_child_weight=4.5), numbers(gamma=gain(a, b) * 1.01)):
        none_found = splits(jnp.asarray(cells), other)
        assert (int(none_found.bin[0]), int(none_found.missing[0])) == (1, 1)
        np.testing.assert_allclose(none_found.values[0], [-3 / 6.5] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"algorithm": "fedavg", "task": {"name": "trees"}},
            "has no gradient.*algorithm=boosting, local or pooled",
        ),
        ({"task": {"name": "logistic"}}, "algorithm=boosting grows trees.*task=logistic has none"),
        ({"task": {"name": "trees", "depth": 9}}, r"task.depth must be in \[1, 8\], got 9"),
        ({"task": {"name": "trees", "bins": 1}}, r"task.bins must be in \[2, 256\], got 1"),
        ({"data": {"preprocess": {"standardise": False}}}, "set data.preprocess.standardise=true"),
        (
            {"algorithm": "fedavg", "data": KEPT},
            "impute=keep leaves missing.*task=logistic takes none",
        ),
        (
            {
                "algorithm": "pooled",
                "task": "trees",
                "data": KEPT,
                "channel": "qsgd",
            },
            "algorithm=pooled is the fit on pooled rows.*channel=qsgd sends",
        ),
        ({"channel": "qsgd"}, "channel=qsgd sends messages that are no longer exact"),
        ({"privacy": "gaussian"}, "privacy=gaussian bounds or noises"),
        ({"secure": "bonawitz"}, "secure=bonawitz sums numbers in fixed point"),
        (
            {"aggregator": "median"},
            "aggregator=median takes.*algorithm=boosting takes none",
        ),
        ({"world": {"name": "uniform", "cohort": 2}}, "some may be missing.*world=all"),
        ({"numerics": {"dtype": "bfloat16"}, "task": {"trees": 200}}, "counts to 256; set numerics.dtype"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        small.engine([small.lane(small.experiment(**{"algorithm": "boosting"} | changes))])


def test_labels_that_trees_cannot_predict_are_refused() -> None:
    fed = rows(60)
    timed = fed.columns | {"time": np.ones(60, np.float32)}
    for kind, classes, columns, message in (
        ("multiclass", 3, fed.columns, "this data's label has 3"),
        ("survival", 2, timed, "task=cox"),
    ):
        other = replace(fed, kind=kind, classes=classes, columns=columns)
        with pytest.raises(RequestError, match=message):
            small.engine([small.lane(small.experiment(algorithm="boosting"), other)], other)
