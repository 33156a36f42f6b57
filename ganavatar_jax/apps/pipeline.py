"""The whole method: prepare, fine-tune, sample frontals, map, evaluate, render."""

import logging
import pathlib

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
from ganavatar_jax.runs import run_dir

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
    with experiment.hold_run(config, workdir, prepares=True) as (resolved, opened):
        _run_all(resolved, opened)


def _run_all(resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir) -> None:
    """Runs the stages of an open run."""
    # What later stages lack is told now, not after the earlier ones.
    due = [n for n, _ in _STAGES if not completeness.judge(n, resolved, opened).stands]
    if train_gan.STAGE in due:
        train_gan.lay_out(resolved)
        if resolved.gan.init and opened.stage_done(train_gan.STAGE) is None:
            weights.locate(resolved.gan.init)
    if {train_gan.STAGE, make_frontals.STAGE} & set(due):
        make_frontals.make_reader(resolved)
    for name, stage in _STAGES:
        if name not in _SELF_CHECKING:
            verdict = completeness.judge(name, resolved, opened)
            if verdict.stands:
                print(f"{name}: complete")
                continue
            if verdict.info is not None:
                _LOG.warning("%s: %s; it is made anew.", name, verdict.describe())
        stage(resolved, opened)
    print(f"done: {opened.path}")
    for name, what in _TO_OPEN.items():
        if (opened.path / name).is_file():
            print(f"  {name}: {what}")
