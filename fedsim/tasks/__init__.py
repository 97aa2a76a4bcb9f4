"""Every task by name: a builder `(cfg, spec, dtype) -> Task`, called while tracing."""

from __future__ import annotations

from collections.abc import Callable

from fedsim import base
from fedsim.base import nearest, require
from fedsim.config import TaskConfig
from fedsim.model import Spec, Task
from fedsim.tasks.cnn import cnn
from fedsim.tasks.cox import cox
from fedsim.tasks.gamma import gamma
from fedsim.tasks.linear import linear
from fedsim.tasks.logistic import logistic
from fedsim.tasks.mlp import mlp
from fedsim.tasks.survival_discrete import survival_discrete
from fedsim.tasks.trees import trees
from fedsim.tasks.two_part import two_part

Builder = Callable[..., Task]  # (a TaskConfig, Spec, dtype)

TASKS: dict[str, Builder] = {
    "logistic": logistic,
    "linear": linear,
    "gamma": gamma,
    "two_part": two_part,
    "mlp": mlp,
    "cnn": cnn,
    "cox": cox,
    "survival_discrete": survival_discrete,
    "trees": trees,
}

__all__ = ["TASKS", "build", "register_task"]


def build(cfg: TaskConfig, spec: Spec, dtype: str) -> Task:
    """The task that `cfg` asks for, on data like `spec`.

    Args:
      cfg: its traced numbers may be tracers.
      dtype: `numerics.dtype`, of parameters and arithmetic.

    Raises:
      RequestError: task and data do not fit, or the task is unknown.
    """
    name = getattr(cfg, "name", type(cfg).__name__)
    require(name in TASKS, f"unknown task {name!r}; {nearest(name, TASKS)}")
    return TASKS[name](cfg, spec, dtype)


def register_task(name: str, config_class: type[TaskConfig], builder: Builder) -> None:
    """Make `task=name` build `config_class` and hand it to `builder`; for modules of your own.

    Raises:
      RequestError: the name belongs to another task, or the class is no TaskConfig.
    """
    require(
        issubclass(config_class, TaskConfig),
        f"task={name} needs a frozen dataclass derived from fedsim.config.TaskConfig, got {config_class!r}",
    )
    base.register("task", name, config_class)
    TASKS[name] = builder
