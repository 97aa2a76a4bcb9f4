"""Small federations for statistics, and slow references written from the textbooks."""

import numpy as np

from fedsim.data.federation import gather

# Freireich et al. 1963 in Kalbfleisch and Prentice: weeks of remission, negative where censored.
TREATED = (6, 6, 6, -6, 7, -9, 10, -10, -11, 13, 16, -17, -19, -20, 22, 23, -25, -32, -32, -34, -35)
PLACEBO = (1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23)


def survival(site, time, event, x=None, features=("group",), patient=None):
    """A federation of rows; x: one feature per row, or [n, features]."""
    x = np.zeros(len(time)) if x is None else np.asarray(x, np.float32)
    return gather(
        [str(s) for s in site],
        {
            "x": np.asarray(x, np.float32).reshape(len(time), -1),
            "y": np.asarray(event, np.int32),
            "time": np.asarray(time, np.float32),
        },
        kind="survival",
        classes=2,
        features=features,
        labels=("0", "1"),
        patient_of_row=patient,
        licence="none",
        source="made",
    )


def leukaemia(sites=3):
    """Both arms of the trial, dealt to sites in turn; group 1 is treated."""
    both = [*TREATED, *PLACEBO]
    time, event = [abs(week) for week in both], [week > 0 for week in both]
    return survival([i % sites for i in range(len(both))], time, event, [1] * 21 + [0] * 21)


def exponential(n, sites=3, seed=0, scale=2.0, end=3.0, x=None, patient=None):
    """Exponential times to an event, uniform times of censoring."""
    rng = np.random.default_rng(seed)
    event, censored = rng.exponential(scale, n), rng.uniform(0, end, n)
    time = np.minimum(event, censored)
    where = [f"site {i % sites}" for i in range(n)]
    return survival(where, time, event <= censored, x, patient=patient)


def slow_curve(time, event):
    """[(time, S, Greenwood's sum)] at the distinct times, one by one."""
    found, s, g = [], 1.0, 0.0
    for t in sorted(set(time)):
        n = sum(u >= t for u in time)
        d = sum(u == t and e for u, e in zip(time, event, strict=True))
        s *= 1 - d / n
        g += d / (n * (n - d)) if n > d else 0.0
        found.append((t, s, g))
    return found


def slow_logrank(time, event, group, groups):
    """(observed, expected, covariance), one event time after another."""
    o, e, v = np.zeros(groups), np.zeros(groups), np.zeros((groups, groups))
    time, event, group = map(np.asarray, (time, event, group))
    for t in np.unique(time[event == 1]):
        there, now = time >= t, (time == t) & (event == 1)
        n, d = there.sum(), now.sum()
        for a in range(groups):
            share = (there & (group == a)).sum() / n
            o[a] += (now & (group == a)).sum()
            e[a] += d * share
            for b in range(groups):
                other = (there & (group == b)).sum() / n
                if n > 1:
                    v[a, b] += d * (n - d) / (n - 1) * share * ((a == b) - other)
    return o, e, v
