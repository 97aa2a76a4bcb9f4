"""`hydra/launcher=fedsim`, found by Hydra in this namespace; what it does is in `fedsim.cli.launcher`.

Every Hydra program of the environment imports this file, so it imports nothing of fedsim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

# key: where the experiment lies in the app's config, null if it is all of it; modules: as --with.
ConfigStore.instance().store(
    group="hydra/launcher",
    name="fedsim",
    node={"_target_": "hydra_plugins.fedsim_launcher.FedsimLauncher", "key": None, "modules": []},
    provider="fedsim_launcher",
)


class FedsimLauncher(Launcher):
    """Plans all jobs of a multirun together, runs what the store lacks, then calls the app for each."""

    def __init__(self, key: str | None = None, modules: Sequence[str] = ()) -> None:
        self._key, self._modules = key, list(modules)
        self._app: dict[str, Any] = {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._app = {"hydra_context": hydra_context, "task_function": task_function, "config": config}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from fedsim.cli.launcher import launch

        return launch(job_overrides, initial_job_idx, key=self._key, modules=self._modules, **self._app)
