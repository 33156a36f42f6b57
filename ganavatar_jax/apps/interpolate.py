"""Task interpolate: a finished avatar goes smoothly from face to face, and back to the first.

samples/interpolate/<space>/film.mp4 and sheet.png; with -2, -3, ... for later ones
"""

import logging
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from scipy import interpolate as splines

from ganavatar_jax.apps import avatar, experiment, films_out, render, use_config
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.faces import coefficients
from ganavatar_jax.models import generator, mapping

_LOG = logging.getLogger(__name__)
_PUSHED = 2.5  # spreads of a coefficient at its face


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Renders the way from face to face.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      RunError: the mapping has not been trained.
      DataFormatError: the codes cannot be used.
    """
    resolved, opened = experiment.read_run(config, workdir)
    person, options = avatar.load(resolved, opened), resolved.interpolate
    w = walk(person, options)
    folder = films_out.claim_folder(opened.path / "samples" / "interpolate", options.space)
    labels = np.tile(person.frontal_label25, (len(w), 1))
    films_out.write_film(folder, person, w, labels, fps=options.fps, batch_size=options.batch_size)
    _LOG.info("%d frames between %d faces: %s", len(w), options.faces, folder / "film.mp4")


def walk(person: avatar.Avatar, config: use_config.InterpolateConfig) -> Float[np.ndarray, "f d"]:
    """Finds the latents on the way.

    Args:
      person: The avatar.
      config: Between which faces, and how fast.

    Returns:
      One latent a frame.

    Raises:
      DataFormatError: the codes cannot be used.
    """
    steps = max(1, round(config.step_s * config.fps))
    if config.space == "latents":
        return _pass(_random_latents(person, config), steps)
    codes = _pass(_key_codes(person, config), steps)
    # A curve may swing below what a weight can be.
    weights = np.array([name in coefficients.ARKIT_NAMES for name in person.names])
    return person.encode(np.where(weights, np.maximum(codes, 0.0), codes).astype(np.float32))


def _pass(keys: np.ndarray, steps: int) -> np.ndarray:
    """Lays a closed smooth curve through keys."""
    closed = np.concatenate([keys, keys[:1]])
    curve = splines.CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")
    return curve(np.arange(len(keys) * steps) / steps).astype(np.float32)


def _key_codes(person: avatar.Avatar, config: use_config.InterpolateConfig) -> np.ndarray:
    if config.source:
        codes = films_out.read_codes(config.source, person)
        return codes[np.linspace(0, len(codes) - 1, config.faces).round().astype(int)]
    moved = [columns for _, columns in render.lively_columns(person)]
    unit = np.ones(len(person.names)) if person.code_std is None else person.code_std
    step = np.array([_PUSHED])
    neutral = np.asarray(person.neutral_code)[None]
    keys = []
    for index in range(config.faces):
        pushed = render.sheet_codes(person, moved[index // 2 % len(moved)], step, unit=unit)
        keys.append(pushed if index % 2 else neutral)
    return np.concatenate(keys)


def _random_latents(person: avatar.Avatar, config: use_config.InterpolateConfig) -> np.ndarray:
    """Maps random latents to w, truncated."""
    seeds = config.first_seed + np.arange(config.faces)
    z = [np.random.RandomState(seed).randn(person.g_config.z_dim) for seed in seeds]
    label25 = jnp.tile(jnp.asarray(person.frontal_label25), (config.faces, 1))
    g = dict(person.g)
    with jax.default_matmul_precision(person.matmul_precision):
        w = generator.map_latent(g, jnp.asarray(np.stack(z), jnp.float32), label25, person.g_config)
        average = g["buffers"]["backbone"]["mapping"]["w_avg"]
        return np.asarray(mapping.truncate(w[:, None], average, psi=config.psi)[:, 0])
