"""The whole configuration of a run, resolved once at the edge, and what all tasks share."""

import pathlib
from collections.abc import Sequence

import ml_collections

from ganavatar_jax.apps import experiment_config
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors
from ganavatar_jax.faces import estimator_config
from ganavatar_jax.runs import run_dir

# Keys that may change when a run folder is used again: how far and how often, not what.
CHANGEABLE = (
    "data.video.truth",
    "data.cache_limit_mb",
    "gan.total_kimg",
    "gan.snapshot_kimg",
    "gan.sample_kimg",
    "gan.log_iterations",
    "gan.profile_iterations",
    "frontal.*",
    "estimator.*",
    "mapping.*",
    "evaluation.*",
    "render.*",
    "drive.*",
    "devices.*",
    "parallel",
    "compile_cache",
    "tensorboard",
)

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

    Source: ours.
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

    Source: ours.
    """
    resolved = resolve(config)
    values = config_lib.to_dict(resolved)
    renewed = _RENEWED if prepares else ()
    run = run_dir.open_run(workdir, values, changeable=CHANGEABLE, renewed=renewed)
    return resolved, run


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

    Source: ours.
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

    Source: ours.
    """
    if count < 1:
        raise errors.DataFormatError(f"expected at least one {what}; got none. {fix}")
