"""The whole method: prepare, fine-tune, sample frontals, map, evaluate, render."""

import logging
import pathlib
from collections.abc import Callable

import ml_collections

from ganavatar_jax.apps import (
    completeness,
    evaluate,
    experiment,
    experiment_config,
    make_frontals,
    prepare_data,
    render,
    train_gan,
    train_mapping,
    weights,
)
from ganavatar_jax.runs import run_dir, together

_LOG = logging.getLogger(__name__)

_STAGES = (
    (prepare_data.STAGE, prepare_data.prepare),
    (train_gan.STAGE, train_gan.train),
    (make_frontals.STAGE, make_frontals.make),
    (train_mapping.STAGE, train_mapping.train),
    (evaluate.STAGE, evaluate.evaluate),
    (render.STAGE, render.render),
)
# These look for themselves whether there is something left to do: more kimg, another dataset.
_SELF_CHECKING = (prepare_data.STAGE, train_gan.STAGE)

# What a user looks at in the end.
_TO_OPEN = {
    "report.html": "the capture, before training",
    "evaluation/contact_sheet.png": "held-out frames beside the truth and two baselines",
    "evaluation/comparison.mp4": "the same as a film",
    "samples/render/turntable.mp4": "the driven avatar from all around",
    "samples/render/expressions.png": "its coefficients from low to high",
}


def run_all(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Runs every stage that is not complete, in order.

    A stage whose results were made from something else than what is there runs again.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      GanAvatarError: a stage was given something it cannot use.

    Source: GAN-Avatar (Kabadayi et al. 2024).
    """
    with experiment.hold_run(config, workdir, prepares=True, shared=True) as (resolved, opened):
        if together.is_first():
            _look_ahead(resolved, opened)
        for name, stage in _STAGES:
            _take_part(name, stage, resolved, opened)
    if together.is_first():
        print(f"done: {opened.path}")
        for name, what in _TO_OPEN.items():
            if (opened.path / name).is_file():
                print(f"  {name}: {what}")


def _look_ahead(resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir) -> None:
    """Tells what later stages lack now, not after the earlier ones."""
    due = [n for n, _ in _STAGES if not completeness.judge(n, resolved, opened).stands]
    if train_gan.STAGE in due:
        train_gan.lay_out(resolved)
        if resolved.gan.init and opened.stage_done(train_gan.STAGE) is None:
            weights.locate(resolved.gan.init)
    if {train_gan.STAGE, make_frontals.STAGE} & set(due):
        make_frontals.make_reader(resolved)


def _take_part(
    name: str,
    stage: Callable[[experiment_config.ExperimentConfig, run_dir.RunDir], None],
    resolved: experiment_config.ExperimentConfig,
    opened: run_dir.RunDir,
) -> None:
    """Runs a stage if it is due; all processes train, and wait for the first in other stages."""
    if name == train_gan.STAGE:
        stage(resolved, opened)
    elif together.is_first() and _is_due(name, resolved, opened):
        stage(resolved, opened)
    together.meet(name)


def _is_due(
    name: str, resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir
) -> bool:
    """Whether a stage has something to do; says so where it has not, or why it has."""
    if name in _SELF_CHECKING:
        return True
    verdict = completeness.judge(name, resolved, opened)
    if verdict.stands:
        print(f"{name}: complete")
        return False
    if verdict.info is not None:
        _LOG.warning("%s: %s; it is made anew.", name, verdict.describe())
    return True
