"""Task render: a turntable of the driven avatar, and a sheet of single expressions."""

import pathlib
from collections.abc import Sequence

import jax.numpy as jnp
import ml_collections
import numpy as np

from ganavatar_jax.apps import (
    avatar,
    completeness,
    evaluate,
    experiment,
    experiment_config,
    prepare_data,
    restating,
)
from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.data import frame_table
from ganavatar_jax.geometry import cameras, trajectories
from ganavatar_jax.reports import media
from ganavatar_jax.runs import run_dir

STAGE = "render"
_SHEET_COLUMNS = 7
_SHEET_ROWS = 6
_TURN_VIEWS = 8


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Renders videos and sheets into samples/render.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      RunError: the mapping has not been trained.
    """
    with experiment.hold_run(config, workdir) as (resolved, opened):
        render(resolved, opened)


def render(resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir) -> None:
    """Renders the turntable, the views all around and the expression sheet.

    Args:
      resolved: The configuration.
      opened: The run.

    Raises:
      RunError: the mapping has not been trained.
      DataFormatError: no held-out frame has a code.
      ConfigError: a driver is to be brought to the spread of pairs that nobody knows.
    """
    config = resolved.render
    begun = completeness.begin(STAGE, resolved, opened)
    person = avatar.load(resolved, opened)
    restating.refuse_unknown(person, resolved)
    folder = opened.folder("samples", "render")
    labels = turntable(config, person.frontal_label25)
    table = frame_table.load_split(
        prepare_data.dataset_folder(opened), "test", cache_limit_mb=resolved.data.cache_limit_mb
    )
    codes, have = evaluate.driving_codes(table, person.names, resolved)
    codes = codes[have]
    experiment.refuse_empty(
        len(codes), what="held-out frame with a code", fix="Check data.split and the codes."
    )
    read = resolved.evaluation.codes == "estimate"
    codes = restating.restate(codes, person, resolved, read=read, label25=table.label25[have])
    driven = person.encode(codes[np.arange(config.frames) % len(codes)])
    turning = person.render(driven, labels).image
    media.write_video(
        folder / "turntable.mp4",
        (media.upscale(frame, min_side_px=256) for frame in turning),
        fps=config.fps,
    )
    neutral = np.repeat(person.encode(person.neutral_code[None]), _TURN_VIEWS, axis=0)
    views = labels[np.linspace(0, config.frames, _TURN_VIEWS, endpoint=False).astype(int)]
    around = person.render(neutral, views).image
    media.save_png(folder / "all_around.png", media.contact_sheet(_side_captions(views, around)))
    media.save_png(folder / "expressions.png", make_expression_sheet(person, resolved))
    completeness.finish(begun, resolved, opened, {"frames": config.frames})


def turntable(
    config: experiment_config.RenderTaskConfig, frontal_label25: Float[np.ndarray, "25"]
) -> Float[np.ndarray, "f 25"]:
    """Walks a camera around the head that starts as the frontal one.

    Args:
      config: Number of frames, and a distance other than the frontal camera's.
      frontal_label25: The camera the avatar's mapping was trained with.

    Returns:
      One camera a frame.
    """
    intrinsics = cameras.from_label25(jnp.asarray(frontal_label25)).intrinsics
    radius = config.radius or float(np.linalg.norm(frontal_label25[3:12:4]))
    path = trajectories.orbit(config.frames, radius=radius, intrinsics=intrinsics)
    return np.asarray(cameras.to_label25(path))


def _side_captions(
    labels: Float[np.ndarray, "v 25"], images_u8: UInt8[np.ndarray, "v h w 3"]
) -> dict[str, UInt8[np.ndarray, "1 h w 3"]]:
    """Names each picture by the side from which the camera looks; degrees of yaw."""
    backward = -labels[:, [2, 6, 10]]
    yaw_deg = np.degrees(np.arctan2(backward[:, 0], backward[:, 2])).round().astype(int)
    turns = [int(yaw + 360 if yaw <= -180 else yaw) for yaw in yaw_deg]
    return {f"{turn:+d} deg": images_u8[i : i + 1] for i, turn in enumerate(turns)}


def sheet_codes(
    person: avatar.Avatar,
    moved: Sequence[int],
    steps: Float[np.ndarray, " s"],
    *,
    unit: Float[np.ndarray, " e"],
) -> Float[np.ndarray, "s e"]:
    """Pushes some coefficients, the others at rest.

    Args:
      person: The avatar.
      moved: Columns of the code.
      steps: How far.
      unit: How far a code goes for a step of 1.

    Returns:
      One code a step.
    """
    codes = np.repeat(np.asarray(person.neutral_code)[None], len(steps), axis=0)
    for column in moved:
        codes[:, column] += steps * unit[column]
    return codes


def make_expression_sheet(
    person: avatar.Avatar, resolved: experiment_config.ExperimentConfig
) -> UInt8[np.ndarray, "h w 3"]:
    """Shows `sheet_codes` of the most lively coefficients, or of those asked for.

    Args:
      person: The avatar.
      resolved: `render` says what is shown, `estimator` what the avatar's codes are.

    Returns:
      The sheet: from ARKit weight 0 to 1 where a table says what these mean, else in spreads of the
      pairs.

    Raises:
      ConfigError: a coefficient asked for does not drive this avatar.
    """
    config = resolved.render
    unknown = [name for name in config.coefficients if name not in person.names]
    if unknown:
        raise errors.ConfigError(
            f"render.coefficients: expected some of {', '.join(person.names)}, which drive this "
            f"avatar; got {', '.join(unknown)}."
        )
    unit, steps = restating.weight_slopes(person, resolved), np.linspace(0.0, 1.0, _SHEET_COLUMNS)
    name_of_step = "{:.2f}".format
    if unit is None:
        unit = np.ones(len(person.names)) if person.code_std is None else person.code_std
        steps = np.linspace(-1.0, 1.0, _SHEET_COLUMNS) * config.strength
        name_of_step = ("{:+.1f}" if person.code_std is None else "{:+.1f} std").format
    columns = {name: [person.names.index(name)] for name in config.coefficients}
    columns = columns or dict(lively_columns(person)[:_SHEET_ROWS])
    rows = []
    for moved in columns.values():
        # What is asked for is shown: no limit.
        w = person.encode(sheet_codes(person, moved, steps, unit=unit), limit=None)
        rows.append(person.render(w, person.frontal_label25).image)
    stacked = np.stack(rows)
    pictures = {name_of_step(step): stacked[:, i] for i, step in enumerate(steps)}
    return media.contact_sheet(pictures, row_labels=tuple(columns))


def lively_columns(person: avatar.Avatar) -> list[tuple[str, list[int]]]:
    """Lists what can be moved, the liveliest first, left and right together.

    Args:
      person: The avatar.

    Returns:
      Label and columns of the code.
    """
    std = np.ones(len(person.names)) if person.code_std is None else person.code_std
    groups = _sides_together(person.names)
    columns = {label: [person.names.index(n) for n in names] for label, names in groups.items()}
    return sorted(columns.items(), key=lambda item: -std[item[1]].mean())


def _sides_together(names: Sequence[str]) -> dict[str, list[str]]:
    """Groups left and right: faces of one side alone are rare, and show little."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.removesuffix("Left").removesuffix("Right"), []).append(name)
    return groups
