"""A multirun of somebody's Hydra app whose configs are experiments: planned, packed and stored as a sweep's.

The app's function is called for each job after all of them are stored, as Hydra's own launcher calls it:
whatever it asks fedsim to run is there by then.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from fedsim import config as options
from fedsim.base import FedsimError, RequestError, require
from fedsim.cli import custom, progress, requested
from fedsim.cli.compose import parse
from fedsim.plan import Cell


def launch(
    job_overrides: Sequence[Sequence[str]],
    first: int,
    *,
    hydra_context: HydraContext,
    task_function: TaskFunction,
    config: DictConfig,
    key: str | None,
    modules: Sequence[str],
) -> list[JobReturn]:
    """Run all jobs' experiments, then the app's function for each job.

    Args:
      job_overrides: one list per job; first: the number of the first; config: the app's, for multirun.
      key: where the experiment lies in the config; None if it is all of it.
      modules: users' modules, as `--with` takes them.

    Raises:
      SystemExit: an error of fedsim's, said in one sentence: with 2 if a job's config is no
        experiment, before anything is run.
    """
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    try:
        jobs = [_job(config, hydra_context, o, number) for number, o in enumerate(job_overrides, first)]
        paths = custom.load(modules)
        # Labels are what sets jobs apart.
        common = set.intersection(*map(set, job_overrides)) if len(jobs) > 1 else set()
        own = [[text for text in texts if text not in common] for texts in job_overrides]
        _run([_cell(job, texts, key) for job, texts in zip(jobs, own, strict=True)], paths)
    except FedsimError as error:
        print(f"fedsim: error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None

    Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
    state = Singleton.get_state()
    returned = []
    for job in jobs:
        returned.append(
            run_job(
                task_function=task_function,
                config=job,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
                hydra_context=hydra_context,
            )
        )
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Singleton.set_state(state)
    return returned


def _job(config: DictConfig, context: HydraContext, overrides: Sequence[str], number: int) -> DictConfig:
    job = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job):
        job.hydra.job.id, job.hydra.job.num = str(number), number
    return job


def _run(cells: list[Cell], modules: tuple[str, ...]) -> None:
    requested.identify(cells)  # two that are the same run are refused

    from fedsim.run import run_experiments

    outcome = run_experiments(
        cells, requested.store_of(cells), progress=progress.watch(quiet=False), modules=modules
    )
    for run, error in outcome.errors.items():
        print(f"fedsim: {run}: {error}", file=sys.stderr)


def _cell(job: DictConfig, overrides: Sequence[str], key: str | None) -> Cell:
    """The experiment of a job, labelled by `overrides`."""
    HydraConfig.instance().set_config(job)  # `${hydra:...}` in the app's config
    given = [parse(text) for text in overrides if not text.lstrip("+~").startswith("hydra")]
    said = ", ".join(overrides) or "the only job"
    mine: Any = OmegaConf.masked_copy(job, [str(name) for name in job if name != "hydra"])
    if key is not None:
        mine = OmegaConf.select(mine, key)
        require(
            OmegaConf.is_dict(mine), f"hydra.launcher.key={key}: the config of {said} has no such mapping"
        )
    values = OmegaConf.to_container(mine, resolve=True)
    assert isinstance(values, dict)
    try:
        experiment = options.experiment({str(name): value for name, value in values.items()})
    except RequestError as error:
        advice = (
            "" if key else "; if the experiment is a part of your config, set hydra.launcher.key to its path"
        )
        raise RequestError(f"hydra/launcher=fedsim: {said}: {error}{advice}") from None
    prefix = f"{key}." if key else ""
    return Cell(experiment, {one.path.removeprefix(prefix): _label(one.value) for one in given})


def _label(value: Any) -> str | int | float:
    return value if isinstance(value, str | int | float) else str(value)
