"""The stages of a run in one table: which options each depends on, what it takes and what it makes.

`completeness` compares this with what a stage's marker notes, so that a result never stands for
something that it was not made from.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from ganavatar_jax.apps import experiment_config, weights
from ganavatar_jax.core import errors, portable
from ganavatar_jax.data.builders import expression_pairs, gan_frames, storage
from ganavatar_jax.faces import estimators
from ganavatar_jax.runs import identity, run_dir

# How far a training goes and what is seen of it, how fast it learns from now on, and how a step is
# computed: these make no other result of what was trained already.
LENGTH_OPTIONS = (
    "gan.total_kimg",
    "gan.snapshot_kimg",
    "gan.sample_kimg",
    "gan.log_iterations",
    "gan.profile_iterations",
)
RATE_OPTIONS = (
    *("gan.g_lr", "gan.d_lr", "gan.reconstruction.adam.lr", "gan.gamma"),
    "gan.skip_nonfinite",
)
COMPUTING_OPTIONS = (
    *("gan.microbatch", "gan.memory_gib", "gan.reconstruction.truth_limit_mb"),
    "generator.render.ray_chunk",
    *("data.cache_limit_mb", "data.skip_damaged"),
)

# Where files of the estimator are does not matter, nor how many threads read.
_ESTIMATOR_PLACES = (
    "estimator.model_path",
    "estimator.codes_path",
    "estimator.allow_download",
    "estimator.num_threads",
)

# What networks give depends on it on accelerators. A training may go on with another: as a rate, it
# decides what is learnt from now on.
_PRECISION = "devices.matmul_precision"

Config = experiment_config.ExperimentConfig


@dataclasses.dataclass(frozen=True)
class Thing:
    """Something a stage takes or makes.

    Attributes:
      what: What it is, after "another".
      where: Its place below the run folder, or the option that names it.
      identify: What is equal for equal things; None where there is none, or a damaged one.
      outside: Whether it lies outside the run folder, where it may be gone without harm.
    """

    what: str
    where: str
    identify: Callable[[Config, run_dir.RunDir], str | None]
    outside: bool = False


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of a run.

    Attributes:
      name: Its name, and its task's.
      options: Dotted keys of the config, `*` allowed, that decide what it makes.
      without: Keys among them that do not.
      takes: Names of things; a function where the config decides.
      makes: Names of things that are always made.
      may_make: Names of things that some configs make.
    """

    name: str
    options: tuple[str, ...]
    takes: Callable[[Config], tuple[str, ...]]
    makes: tuple[str, ...]
    without: tuple[str, ...] = ()
    may_make: tuple[str, ...] = ()


def dataset_path(opened: run_dir.RunDir) -> pathlib.Path:
    """Names the folder of the run's datasets, without making it.

    Args:
      opened: The run.

    Returns:
      The folder.
    """
    return opened.path / "dataset"


def export_path(opened: run_dir.RunDir, name: str) -> pathlib.Path:
    """Names a file of the run's exported networks, without making its folder.

    Args:
      opened: The run.
      name: File name.

    Returns:
      The file.
    """
    return opened.path / "checkpoints" / "export" / name


def _network(name: str) -> Callable[[Config, run_dir.RunDir], str | None]:
    return lambda _, opened: portable.identify(export_path(opened, name), thorough=True)


def _start(resolved: Config, opened: run_dir.RunDir) -> str | None:
    """The weights a training started from; None where they are no more."""
    try:
        folder = weights.locate(resolved.gan.init)
    except errors.WeightError:
        return None
    names = (weights.GENERATOR, weights.DISCRIMINATOR, weights.ENCODER)
    return identity.digest_values(
        {name: portable.identify(folder / name, thorough=True) for name in names}
    )


def _pairs(resolved: Config, opened: run_dir.RunDir) -> str | None:
    folder = dataset_path(opened)
    if storage.find_damage(folder, expression_pairs.ExpressionPairs) is not None:
        return None
    return storage.identify(folder, expression_pairs.ExpressionPairs)


def _all_of(*names: str) -> Callable[[Config, run_dir.RunDir], str | None]:
    """Files that are only looked at: whether they are there."""
    return lambda _, opened: (
        "there" if all((opened.path / name).is_file() for name in names) else None
    )


THINGS: Mapping[str, Thing] = {
    "start": Thing("start", "gan.init", _start, outside=True),
    "estimator": Thing(
        "estimator",
        "its files",
        lambda resolved, _: estimators.identify(resolved.estimator),
        outside=True,
    ),
    "inception": Thing(
        "Inception network",
        "evaluation.inception",
        lambda resolved, _: identity.digest_file(resolved.evaluation.inception or ""),
        outside=True,
    ),
    # Its files' content is compared where it is prepared; here their sizes.
    "dataset": Thing(
        "dataset",
        "dataset/gan_frames",
        lambda _, opened: storage.identify(dataset_path(opened), gan_frames.GanFrames),
    ),
    "pairs": Thing("set of pairs", "dataset/expression_pairs", _pairs),
    **{
        name: Thing(name, f"checkpoints/export/{file}", _network(file))
        for name, file in {
            "generator": weights.GENERATOR,
            "discriminator": weights.DISCRIMINATOR,
            "encoder": weights.ENCODER,
            "mapping": weights.MAPPING,
        }.items()
    },
    "evaluation": Thing(
        "evaluation",
        "evaluation",
        _all_of(
            *(f"evaluation/{n}" for n in ("metrics.json", "per_frame.csv", "contact_sheet.png")),
            "evaluation/comparison.mp4",
        ),
    ),
    "renders": Thing(
        "render",
        "samples/render",
        _all_of(*(f"samples/render/{n}" for n in ("turntable.mp4", "expressions.png"))),
    ),
}


def _take_for_gan(resolved: Config) -> tuple[str, ...]:
    return ("dataset", "start") if resolved.gan.init else ("dataset",)


def _take_for_frontals(resolved: Config) -> tuple[str, ...]:
    encoded = resolved.frontal.latents == "encoder"
    capture = encoded or resolved.frontal.camera == "capture" or resolved.frontal.turned > 0
    dataset = ("dataset",) if capture else ()
    return ("generator", *(("encoder",) if encoded else ()), *dataset, "estimator")


def _take_for_evaluation(resolved: Config) -> tuple[str, ...]:
    measures = ("inception",) if resolved.evaluation.inception else ()
    return ("dataset", "generator", "mapping", "estimator", *measures)


def _take_for_render(resolved: Config) -> tuple[str, ...]:
    reads = ("estimator",) if resolved.evaluation.codes == "estimate" else ()
    return ("dataset", "generator", "mapping", *reads)


_TABLE = (
    Stage(
        "prepare_data",
        options=("data.*",),
        without=(
            *("data.source", "data.mirror", "data.cache_limit_mb", "data.skip_damaged"),
            *("data.video.truth", "data.video.matte_model", "data.video.fewest_frames"),
        ),
        takes=lambda _: (),
        makes=("dataset",),
    ),
    Stage(
        "train_gan",
        options=("data.mirror", "generator.*", "discriminator.*", "gan.*"),
        without=(*LENGTH_OPTIONS, *RATE_OPTIONS, *COMPUTING_OPTIONS, "gan.init"),
        takes=_take_for_gan,
        makes=("generator",),
        may_make=("discriminator", "encoder"),
    ),
    Stage(
        "make_frontals",
        options=("frontal.*", "estimator.*", _PRECISION),
        without=("frontal.batch_size", *_ESTIMATOR_PLACES),
        takes=_take_for_frontals,
        makes=("pairs",),
    ),
    Stage(
        "train_mapping",
        options=("mapping.*", _PRECISION),
        takes=lambda _: ("generator", "pairs"),
        makes=("mapping",),
    ),
    Stage(
        "evaluate",
        options=("evaluation.*", "estimator.*", _PRECISION),
        without=("evaluation.batch_size", *_ESTIMATOR_PLACES),
        takes=_take_for_evaluation,
        makes=("evaluation",),
    ),
    Stage(
        "render",
        options=(
            "render.*",
            "estimator.*",
            _PRECISION,
            *("evaluation.codes", "evaluation.driver_statistics"),
        ),
        without=_ESTIMATOR_PLACES,
        takes=_take_for_render,
        makes=("renders",),
    ),
)

STAGES: Mapping[str, Stage] = {stage.name: stage for stage in _TABLE}
MAKERS: Mapping[str, str] = {
    thing: stage.name for stage in _TABLE for thing in (*stage.makes, *stage.may_make)
}


def find_earlier(name: str, resolved: Config) -> list[str]:
    """Lists the stages that a stage builds on.

    Args:
      name: The stage.
      resolved: The configuration.

    Returns:
      Their names, in the order they run.
    """
    found: set[str] = set()
    due = [name]
    while due:
        takes = STAGES[due.pop()].takes(resolved)
        makers = {MAKERS[thing] for thing in takes if thing in MAKERS} - found
        found |= makers
        due += makers
    return [stage for stage in STAGES if stage in found]


def options_of(name: str, config_json: Mapping[str, Any]) -> dict[str, Any]:
    """Takes the options a stage depends on out of a config.

    Args:
      name: The stage.
      config_json: The config as nested JSON values.

    Returns:
      Dotted key -> value.
    """
    stage = STAGES[name]
    return identity.select_options(config_json, stage.options, without=stage.without)
