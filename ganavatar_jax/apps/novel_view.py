"""Task novel_view: a finished avatar seen from an orbit, an ellipse or given cameras.

samples/novel_view/<path>/   with -2, -3, ... for later ones
  film.mp4, sheet.png   the views
  cameras.json          their cameras, as in an EG3D dataset.json
  frames/*.png          with alpha, where novel_view.pictures asks for them
"""

import json
import logging
import pathlib

import jax.numpy as jnp
import ml_collections
import numpy as np

from ganavatar_jax.apps import avatar, experiment, films_out, use_config
from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.core.readers import text_files
from ganavatar_jax.geometry import cameras, trajectories

_LOG = logging.getLogger(__name__)


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Renders the views of a run folder's avatar.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      RunError: the mapping has not been trained.
      DataFormatError: the cameras or codes cannot be used.
    """
    resolved, opened = experiment.read_run(config, workdir)
    person, options = avatar.load(resolved, opened), resolved.novel_view
    label25 = make_cameras(options, person.frontal_label25)
    codes = films_out.read_codes(options.codes, person)
    w = person.encode(codes[np.arange(len(label25)) % len(codes)])
    folder = films_out.claim_folder(opened.path / "samples" / "novel_view", options.path)
    films_out.write_film(
        folder,
        person,
        w,
        label25,
        fps=options.fps,
        batch_size=options.batch_size,
        pictures=options.pictures,
    )
    labels = [[f"{i:06d}.png", label.astype(float).tolist()] for i, label in enumerate(label25)]
    files.write_atomic(folder / "cameras.json", json.dumps({"labels": labels}) + "\n")
    _LOG.info("%d views: %s", len(label25), folder / "film.mp4")


def make_cameras(
    config: use_config.NovelViewConfig, frontal_label25: Float[np.ndarray, "25"]
) -> Float[np.ndarray, "f 25"]:
    """Places the cameras.

    Args:
      config: Which path.
      frontal_label25: The camera the avatar's mapping was trained with.

    Returns:
      One camera a frame; the last is followed by the first.

    Raises:
      DataFormatError: the file of cameras cannot be used.
    """
    if config.path == "cameras":
        return _read_cameras(pathlib.Path(config.cameras))
    phase = 2.0 * np.pi * np.arange(config.frames) / config.frames
    yaw_deg, pitch_deg = np.degrees(phase), np.zeros(config.frames)
    if config.path == "ellipse":
        yaw_deg, pitch_deg = config.yaw_deg * np.sin(phase), config.pitch_deg * np.cos(phase)
    path = trajectories.around(
        cameras.from_label25(jnp.asarray(frontal_label25)),
        yaw_deg.astype(np.float32),
        pitch_deg.astype(np.float32),
    )
    return np.asarray(cameras.to_label25(path))


def _read_cameras(path: pathlib.Path) -> Float[np.ndarray, "f 25"]:
    """Reads cameras from the JSON of an EG3D dataset, or from bare lists of numbers."""
    try:
        content = text_files.parse_json(text_files.read_bytes(path))
    except (OSError, ValueError) as error:
        raise errors.DataFormatError(
            f"{path}: expected a JSON file of cameras; it cannot be read ({error}). Write it anew."
        ) from error
    try:
        rows = content
        if isinstance(content, dict):
            rows = [label for _, label in content["labels"]]
        found = np.asarray(rows, np.float32)
    except (KeyError, TypeError, ValueError):
        found = np.empty(0, np.float32)
    if (
        found.ndim != 2
        or found.shape[1:] != (25,)
        or not len(found)
        or not np.isfinite(found).all()
    ):
        raise errors.DataFormatError(
            f'{path}: expected cameras, {{"labels": [[name, [25 numbers]], ...]}} or a list of '
            f"lists of 25 numbers; got {str(content)[:60]}. See CONVENTIONS.md, label25."
        )
    rotations = found[:, :16].reshape(-1, 4, 4)[:, :3, :3]
    if np.abs(rotations @ rotations.swapaxes(1, 2) - np.eye(3)).max() > 1e-2:
        raise errors.DataFormatError(
            f"{path}: expected rigid poses, cam2world row by row; one is not a rotation. Divide "
            "scales out of the rotations."
        )
    return found
