"""The tasks of the command line, by name; a task's module is imported only when it runs.

Every task is a function `run(config: ConfigDict, workdir: pathlib.Path) -> None`.
"""

import importlib
import pathlib
from collections.abc import Callable

import ml_collections

Task = Callable[[ml_collections.ConfigDict, pathlib.Path], None]

DEFAULT = "all"
TASKS = {
    "all": "pipeline:run_all",  # the whole method, stage by stage
    "prepare_data": "prepare_data:run",
    "train_gan": "train_gan:run",
    "make_frontals": "make_frontals:run",
    "train_mapping": "train_mapping:run",
    "evaluate": "evaluate:run",
    "render": "render:run",
    "drive": "drive:run",  # of what `all` has made, with codes of another source
}


def load(name: str) -> Task:
    """Imports a task.

    Args:
      name: One of TASKS.

    Returns:
      The function that runs it.

    Source: ours.
    """
    module, function = TASKS[name].split(":")
    return getattr(importlib.import_module(f"ganavatar_jax.apps.{module}"), function)
