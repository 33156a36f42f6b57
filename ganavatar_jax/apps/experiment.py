"""The whole configuration of a run, resolved once at the edge, and what all tasks share."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import ml_collections

from ganavatar_jax.apps import completeness, experiment_config, stages
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, files
from ganavatar_jax.faces import estimator_config
from ganavatar_jax.runs import lock, mirror, run_dir, sharing, together

# Keys that may change when a run folder is used again: how far, how fast and how a step is
# computed, and those of stages that are made anew because of them.
CHANGEABLE = (
    "data.video.truth",
    *experiment_config.GONE,
    *stages.LENGTH_OPTIONS,
    *stages.RATE_OPTIONS,
    *stages.COMPUTING_OPTIONS,
    "frontal.*",
    "estimator.*",
    "mapping.*",
    "evaluation.*",
    "render.*",
    "drive.*",
    "novel_view.*",
    "interpolate.*",
    "reenact.*",
    "export_web.*",
    "export_mesh.*",
    "devices.*",
    "parallel",
    "compile_cache",
    *("tensorboard", "wandb", "mirror"),
)

# Keys that run folders of earlier versions lack, with the value that means what was done then.
ADDED = {
    "data.video.fov_deg": 0.0,
    "data.reader.flame_joints": [],
    # What only "blocks" looks at, a policy that they do not know.
    "data.split.test_blocks": 4,
    "data.split.guard_frames": 12,
    "gan.reconstruction.unseen_interval": 0,
    "gan.reconstruction.unseen_count": 256,
}
# Keys that nothing depends on until training has begun: the dataset is made without them.
_MENDABLE = ("gan.*", "generator.*", "discriminator.*")
# Stages that compare what they made with the config, and make it anew.
_RENEWED = ("prepare_data",)


def resolve(config: ml_collections.ConfigDict) -> experiment_config.ExperimentConfig:
    """Checks a config file's content.

    Args:
      config: What a file in configs/ returns, overrides applied.

    Returns:
      The resolved configuration.

    Raises:
      ConfigError: a key is unknown, missing or mistyped, or sections contradict each other.
    """
    data = config.get("data")
    if isinstance(data, ml_collections.ConfigDict) and "source" in data and data.source is None:
        raise errors.ConfigError(
            "data.source is not set; name the person's capture, a folder, a zip or a video, e.g. "
            "--config.data.source=captures/me.zip (a video: add --config.data.format=video)."
        )
    return config_lib.resolve(experiment_config.ExperimentConfig, config)


def open_run(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, *, prepares: bool = False
) -> tuple[experiment_config.ExperimentConfig, run_dir.RunDir]:
    """Checks the config and opens the run folder.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.
      prepares: Whether the dataset is prepared next, so that what no longer fits the config is
        made anew: until training has begun, all of the config may then differ from the folder's.

    Returns:
      The resolved configuration and the run.

    Raises:
      ConfigError: the config is wrong.
      RunError: the folder cannot be used, or belongs to another config.
    """
    resolved = resolve(config)
    values = config_lib.to_dict(resolved)
    renewed = _RENEWED if prepares else ()
    run = run_dir.open_run(
        workdir,
        values,
        changeable=CHANGEABLE,
        mendable=_MENDABLE,
        renewed=renewed,
        added=ADDED,
    )
    return resolved, run


@contextlib.contextmanager
def hold_run(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    *,
    prepares: bool = False,
    shared: bool = False,
) -> Iterator[tuple[experiment_config.ExperimentConfig, run_dir.RunDir]]:
    """Opens the run folder for one task and keeps other commands out of it meanwhile.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.
      prepares: As for `open_run`.
      shared: Whether all processes of the run are here, not the first one alone.

    Yields:
      The resolved configuration and the run.

    Raises:
      ConfigError: the config is wrong.
      RunError: another command works in the folder; or it cannot be used, or belongs to another
        config, or is not one folder for all processes.
    """
    resolved = resolve(config)  # what is wrong is told first, whoever works in the folder
    if not together.is_alone() and resolved.parallel == "pmap" and shared:
        raise errors.ConfigError(
            "parallel=pmap works in one process; for several take parallel=jit or shard_map, which "
            "give the same numbers."
        )
    folder = files.check_writable(workdir)
    copy = mirror.Mirror(resolved.mirror, folder) if resolved.mirror else None
    if copy is not None and together.is_first():
        copy.pull()
    alone = lock.hold(folder) if together.is_first() else contextlib.nullcontext()
    with alone:
        if together.is_first():
            resolved, opened = open_run(config, folder, prepares=prepares)
            for name in stages.STAGES:
                completeness.adopt(name, resolved, opened)
        else:
            opened = run_dir.RunDir(folder, primary=False)
        if shared:
            sharing.check(folder)
        opened = dataclasses.replace(opened, mirror=copy)
        try:
            yield resolved, opened
        finally:
            opened.copy()


def read_run(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[experiment_config.ExperimentConfig, run_dir.RunDir]:
    """Opens a run folder to use its avatar, also while another command works in it.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder; nothing is written into it.

    Returns:
      The resolved configuration and the run.

    Raises:
      ConfigError: the config is wrong.
      RunError: the folder belongs to another config.
    """
    resolved = resolve(config)
    values = config_lib.to_dict(resolved)
    changeable = CHANGEABLE if (workdir / "stages").is_dir() else ("*",)
    return resolved, run_dir.read_run(workdir, values, changeable=changeable, added=ADDED)


def refuse_unread(
    wanted: Sequence[str], names: Sequence[str], estimator: estimator_config.EstimatorConfig
) -> None:
    """Insists that the coefficients the mapping takes are read by the estimator.

    Args:
      wanted: Names in mapping.coefficients; none takes all.
      names: What the estimator's codes hold.
      estimator: Its configuration.

    Raises:
      ConfigError: some are not read.
    """
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise errors.ConfigError(
            f"mapping.coefficients: expected some of what the estimator {estimator.name!r} reads "
            f"({', '.join(names[:4])}, ...); got {', '.join(missing[:4])}. Set "
            '--config.mapping.coefficients="()" to take all it reads.'
        )


def refuse_empty(count: int, *, what: str, fix: str) -> None:
    """Insists that there is something to work on.

    Args:
      count: How many there are.
      what: What is counted.
      fix: What to change.

    Raises:
      DataFormatError: there is none.
    """
    if count < 1:
        raise errors.DataFormatError(f"expected at least one {what}; got none. {fix}")
