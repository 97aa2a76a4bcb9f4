"""Against lifelines, scikit-survival and published numbers of Rossi's data (Rossi, Berk, Lenihan 1980)."""

import numpy as np
import pytest

from fedsim.estimate import asked, estimate
from tests.estimate.made import survival

lifelines = pytest.importorskip("lifelines", reason="lifelines is of the dev lock; run make setup")
nonparametric = pytest.importorskip("sksurv.nonparametric", reason="scikit-survival is of the dev lock")
sksurv_compare = pytest.importorskip("sksurv.compare", reason="scikit-survival is of the dev lock")


@pytest.fixture(scope="module")
def rossi():
    from lifelines.datasets import load_rossi

    return load_rossi()


@pytest.fixture(scope="module")
def federation(rossi):
    """Of 432 men, dealt to four sites by their number."""
    site = [f"site {i % 4}" for i in range(len(rossi))]
    return survival(site, rossi["week"], rossi["arrest"], rossi[["fin", "race"]].to_numpy(), ("fin", "race"))


def test_rossi_s_curve(rossi, federation):
    (group,) = estimate("kaplan_meier", asked("kaplan_meier", {}), federation)["groups"]
    curve = {name: np.array(values) for name, values in group["curve"].items()}
    survived = dict(zip(curve["time"], curve["survival"], strict=True))
    assert survived[26] == pytest.approx(0.875, abs=1e-12)
    assert survived[52] == pytest.approx(0.736111, abs=5e-7)
    fitted = lifelines.KaplanMeierFitter().fit(rossi["week"], rossi["arrest"])
    low, high = fitted.confidence_interval_survival_function_.loc[curve["time"]].to_numpy().T
    np.testing.assert_allclose(curve["survival"], fitted.predict(curve["time"]), rtol=1e-12)
    np.testing.assert_allclose(curve["low"], low, rtol=1e-9)
    np.testing.assert_allclose(curve["high"], high, rtol=1e-9)
    time, survival_, bounds = nonparametric.kaplan_meier_estimator(
        rossi["arrest"].to_numpy(bool), rossi["week"].to_numpy(float), conf_type="log-log"
    )
    np.testing.assert_array_equal(time, curve["time"])
    np.testing.assert_allclose(curve["survival"], survival_, rtol=1e-12)
    np.testing.assert_allclose([curve["low"], curve["high"]], bounds, rtol=1e-9)


@pytest.mark.parametrize("by", ["fin", "race"])
def test_rossi_s_logrank_tests(rossi, federation, by):
    from lifelines.statistics import logrank_test

    found = estimate("logrank", asked("logrank", {"by": by}), federation)
    one = rossi[by] == 1
    known = logrank_test(rossi["week"][one], rossi["week"][~one], rossi["arrest"][one], rossi["arrest"][~one])
    assert found["chi_square"] == pytest.approx(known.test_statistic, rel=1e-9)
    assert found["p"] == pytest.approx(known.p_value, rel=1e-7)
    timed = np.array(
        list(zip(rossi["arrest"].astype(bool), rossi["week"].astype(float), strict=True)),
        dtype=[("event", bool), ("time", float)],
    )
    chi_square, p = sksurv_compare.compare_survival(timed, rossi[by].to_numpy())
    assert found["chi_square"] == pytest.approx(chi_square, rel=1e-9)
    assert found["p"] == pytest.approx(p, rel=1e-7)
