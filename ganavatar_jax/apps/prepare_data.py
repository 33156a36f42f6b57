"""Task prepare_data: a capture becomes the canonical dataset of the run."""

import contextlib
import pathlib

import ml_collections

from ganavatar_jax.apps import experiment
from ganavatar_jax.core import images
from ganavatar_jax.data import pipeline
from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.training import progress, run_dir

STAGE = "prepare_data"
_SHEET_FRAMES = 32


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Prepares the dataset, unless an equal one is there.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      DataFormatError: the capture breaks its layout.
      RunError: the run folder cannot be used.

    Source: ours.
    """
    resolved, opened = experiment.open_run(config, workdir)
    prepare(resolved, opened)


def dataset_folder(opened: run_dir.RunDir) -> pathlib.Path:
    """Returns where the run keeps its datasets.

    Args:
      opened: The run.

    Returns:
      The folder.

    Source: ours.
    """
    return opened.folder("dataset")


def prepare(resolved: experiment.ExperimentConfig, opened: run_dir.RunDir) -> None:
    """Prepares the dataset and a contact sheet of it.

    Args:
      resolved: The configuration.
      opened: The run.

    Raises:
      DataFormatError: the capture breaks its layout, or no frame trains.
      RunError: the folder cannot be written.

    Source: ours.
    """
    from ganavatar_jax.apps import media  # video libraries are not needed to train

    folder = dataset_folder(opened)
    with contextlib.ExitStack() as stack:
        bars: list[progress.Progress] = []

        def show(done: int, total: int) -> None:
            if not bars:
                bar = progress.Progress(total, unit="frame", title=STAGE, every_s=10)
                bars.append(stack.enter_context(bar))
            bars[0].update(done - bars[0].done)

        summary = gan_frames.prepare(resolved.data, folder, progress=show)
    splits = summary["splits"]
    fix = "Check data.source and data.split."
    experiment.refuse_empty(splits.get("train", 0), what="training frame", fix=fix)
    if summary["rebuilt"] or opened.stage_done(STAGE) is None:
        table = pipeline.load_split(folder, "train")
        chosen = [
            round(i * (len(table.frame_id) - 1) / (_SHEET_FRAMES - 1)) for i in range(_SHEET_FRAMES)
        ]
        sheet = images.make_grid(table.image[chosen], columns=8, padding_px=2)
        media.save_png(opened.folder("samples", "data") / "train.png", sheet)
        keys = ("splits", "resolution", "background", "source", "expression_names")
        opened.mark_done(STAGE, {key: summary[key] for key in keys})
