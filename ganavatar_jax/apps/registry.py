"""The tasks of the command line, by name; a task's module is imported only when it runs.

Every task is a function `run(config: ConfigDict, workdir: pathlib.Path) -> None`.
"""

import importlib
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import ml_collections

Task = Callable[[ml_collections.ConfigDict, pathlib.Path], None]


class Entry(NamedTuple):
    """One task.

    Attributes:
      place: Module and function that run it.
      meaning: What it does, one line for --help.
    """

    place: str
    meaning: str


DEFAULT = "all"
READING = ("status",)  # only look at the run folder, without JAX and without --config
SHARED = ("all", "train_gan")  # all processes of a run take part
TASKS = {
    "all": Entry("pipeline:run_all", "the whole method: all of the following up to render"),
    "prepare_data": Entry(
        "prepare_data:run", "a capture becomes a dataset and a report to look at"
    ),
    "train_gan": Entry("train_gan:run", "the generator learns the person's images and cameras"),
    "make_frontals": Entry("make_frontals:run", "renders from the front, with codes read off them"),
    "train_mapping": Entry("train_mapping:run", "a network learns from codes what to render"),
    "evaluate": Entry("evaluate:run", "held-out frames are reenacted, measured and compared"),
    "render": Entry("render:run", "a turntable video and a sheet of expressions"),
    "status": Entry(
        "status:run", "how far a run folder is, and who works in it; needs no --config"
    ),
    "drive": Entry("drive:run", "a finished avatar is driven by another video, pictures or codes"),
    "novel_view": Entry("novel_view:run", "a finished avatar from given cameras, or all around"),
    "interpolate": Entry("interpolate:run", "a finished avatar goes from face to face"),
    "reenact": Entry(
        "reenact:run", "a finished avatar shows held-out frames, another avatar's too"
    ),
    "export": Entry("export_folder:run", "one folder that renders the avatar without this program"),
    "export_mesh": Entry("export_mesh:run", "the avatar's surface as .ply and .glb"),
    "export_web": Entry("export_web:run", "a finished avatar as one HTML file for any browser"),
}


def load(name: str) -> Task:
    """Imports a task.

    Args:
      name: One of TASKS.

    Returns:
      The function that runs it.
    """
    module, function = TASKS[name].place.split(":")
    return getattr(importlib.import_module(f"ganavatar_jax.apps.{module}"), function)
