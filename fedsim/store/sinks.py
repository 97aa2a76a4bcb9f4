"""Stored runs for trackers: TensorBoard's event files and MLflow's file store. Both need `[tracking]`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsim.base import FedsimError, not_written, require

if TYPE_CHECKING:
    from fedsim.store import ResultStore

_KEYS = ("round", "replica", "set", "aggregate")
_PACKAGE = {
    "tensorboard": ("tensorboardX", "event files need tensorboardX"),
    "mlflow": ("mlflow", "MLflow's file store needs mlflow-skinny"),
}


def check(trackers: Iterable[str]) -> None:
    """Raises RequestError where what a tracker needs is not installed."""
    for tracker in trackers:
        package, what = _PACKAGE[tracker]
        require(find_spec(package), f"{what}; install it with: pip install 'fedsim-regions[tracking]'")


def write(
    trackers: Iterable[str],
    store: ResultStore,
    folder: Path,
    name: str,
    runs: Mapping[str, Mapping[str, Any]],
) -> None:
    """Tell each tracker of `runs`, their rows by round, in `folder`/TRACKER.

    Args:
      name: of the experiment, in MLflow; runs: run -> labels, all of them stored with rounds.

    Raises:
      RequestError: as `check`.
      FedsimError: a folder cannot be written; the runs are stored all the same.
    """
    wanted = list(trackers)
    check(wanted)
    rows = {run: store.read(run, "rounds").to_pylist() for run in runs} if wanted else {}
    for tracker in wanted:
        try:
            if tracker == "tensorboard":
                for run, labels in runs.items():
                    tensorboard(folder / tracker, run, labels, rows[run])
            else:
                found = {run: (labels, store.options(run), rows[run]) for run, labels in runs.items()}
                mlflow(folder / tracker, name, found)
        except OSError as error:
            said = not_written(folder / tracker, error, "make it a folder that can be, or leave the sink out")
            raise FedsimError(f"{said}; {_stored(tracker)}") from error
        except Exception as error:  # the tracker's own, of what lies there
            reason = (str(error).splitlines() or [""])[0]
            raise FedsimError(
                f"{tracker} cannot use {folder / tracker} ({type(error).__name__}: {reason}); move it away, "
                f"or leave the sink out; {_stored(tracker)}"
            ) from error


def _stored(tracker: str) -> str:
    return f"the runs are stored, and fedsim export NAME --to {tracker} tells it of those of a sweep"


def scalars(rounds: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float, int]]:
    """(name, value, round) of every defined number in a run's rows, such as ("auroc/test pooled", 0.8, 5)."""
    several = len({row["replica"] for row in rounds}) > 1
    for row in rounds:
        of = f"{row['set']} {row['aggregate']}"
        # -1 is all folds' rows together.
        fold = f" fold {row['replica']}" if several and row["replica"] >= 0 else ""
        for name, value in row.items():
            if name not in _KEYS and isinstance(value, int | float):
                yield f"{name}/{of}{fold}", float(value), int(row["round"])


def tensorboard(
    folder: Path, run: str, labels: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]
) -> None:
    """Event files of one run in `folder`/LABELS RUN, in place of those that were there."""
    from tensorboardX import SummaryWriter

    said = ",".join(f"{axis}={label}" for axis, label in labels.items()).replace("/", "_")
    place = folder / f"{said} {run}".strip()
    shutil.rmtree(place, ignore_errors=True)
    with SummaryWriter(str(place)) as writer:
        for name, value, step in scalars(rounds):
            writer.add_scalar(name.replace(" ", "_"), value, step, walltime=float(step))


def mlflow(
    folder: Path,
    experiment: str,
    runs: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], Sequence[Mapping[str, Any]]]],
) -> None:
    """Runs, each (labels, options, rounds), in MLflow's file store `folder`; those that are there whole stay,
    and what is left of one whose writing was killed is deleted."""
    # MLflow 3 asks for this before it writes files; a database would need much more to be installed.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=folder.absolute().as_uri())
    known = client.get_experiment_by_name(experiment)
    where = known.experiment_id if known else client.create_experiment(experiment)
    there = {f.data.tags.get("fedsim.run"): f.info for f in client.search_runs([where], max_results=50_000)}
    for run, (labels, options, rounds) in runs.items():
        if run in there and there[run].status == "FINISHED":
            continue
        if run in there:
            client.delete_run(there[run].run_id)
        tags = {f"label.{axis}": str(label) for axis, label in labels.items()} | {"fedsim.run": run}
        name = " ".join(map(str, labels.values())) or run
        made = client.create_run(where, tags=tags, run_name=name).info.run_id
        params = [Param(name, str(value)[:500]) for name, value in options.items() if value is not None]
        metrics = [Metric(name, value, step, step) for name, value, step in scalars(rounds)]
        for i in range(0, len(params), 100):  # as many as one call takes
            client.log_batch(made, params=params[i : i + 100])
        for i in range(0, len(metrics), 1000):
            client.log_batch(made, metrics=metrics[i : i + 1000])
        client.set_terminated(made)
