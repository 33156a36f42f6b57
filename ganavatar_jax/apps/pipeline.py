"""The whole method: prepare, fine-tune, sample frontals, map, evaluate, render."""

import pathlib

import ml_collections

from ganavatar_jax.apps import (
    evaluate,
    experiment,
    make_frontals,
    prepare_data,
    render,
    train_gan,
    train_mapping,
    weights,
)

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

    A stage that ran makes all later ones run again.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      GanAvatarError: a stage was given something it cannot use.

    Source: GAN-Avatar (Kabadayi et al. 2024).
    """
    resolved, opened = experiment.open_run(config, workdir, prepares=True)
    # What later stages lack is told now, not after the earlier ones.
    if opened.stage_done(train_gan.STAGE) is None:
        train_gan.lay_out(resolved)
        if resolved.gan.init:
            weights.locate(resolved.gan.init)
    if opened.stage_done(make_frontals.STAGE) is None:
        make_frontals.make_reader(resolved)
    stale = False
    for name, stage in _STAGES:
        before = opened.stage_done(name)
        if before is not None and not stale and name not in _SELF_CHECKING:
            print(f"{name}: complete")
            continue
        stage(resolved, opened)
        # The GAN may have been trained further than when the later stages ran.
        stale = stale or before is None or opened.stage_done(name) != before
    print(f"done: {opened.path}")
    for name, what in _TO_OPEN.items():
        if (opened.path / name).is_file():
            print(f"  {name}: {what}")
