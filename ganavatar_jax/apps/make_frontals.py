"""Task make_frontals: sample the generator frontally and read expression codes off the renders."""

import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ganavatar_jax.apps import (
    avatar,
    completeness,
    experiment,
    experiment_config,
    prepare_data,
    train_gan,
    weights,
)
from ganavatar_jax.core import chunks, errors, image_sequences, images, rng
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.data import frame_table
from ganavatar_jax.data.builders import expression_pairs
from ganavatar_jax.faces import estimation, estimators
from ganavatar_jax.models import encoder, generator, generator_config, mapping
from ganavatar_jax.reports import media
from ganavatar_jax.runs import progress, run_dir

_LOG = logging.getLogger(__name__)

STAGE = "make_frontals"
_MIN_PAIRS = 8


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Makes the dataset of (image, w, code) pairs.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      RunError: the GAN has not been trained.
      EstimatorError: the estimator cannot be set up, or reads too few renders.
      ConfigError: mapping.coefficients asks for what the estimator does not read.

    Source: GAN-Avatar (Kabadayi et al. 2024), section on the mapping network.
    """
    with experiment.hold_run(config, workdir) as (resolved, opened):
        make(resolved, opened)


def make_reader(resolved: experiment_config.ExperimentConfig) -> estimation.Estimator:
    """Sets up the estimator that reads the renders.

    Args:
      resolved: The configuration.

    Returns:
      The estimator; it reads what the mapping takes.

    Raises:
      EstimatorError: the estimator cannot be set up.
      ConfigError: mapping.coefficients asks for what it does not read.
    """
    estimator = estimators.make_estimator(resolved.estimator)
    experiment.refuse_unread(resolved.mapping.coefficients, estimator.names, resolved.estimator)
    return estimator


def make(resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir) -> None:
    """Samples, renders, estimates, and writes the pairs with a held-out part.

    Args:
      resolved: The configuration.
      opened: The run.

    Raises:
      RunError: the GAN has not been trained, or for something else.
      EstimatorError: the estimator cannot be set up, or reads too few renders.

    Source: GAN-Avatar (Kabadayi et al. 2024).
    """
    config = resolved.frontal
    begun = completeness.begin(STAGE, resolved, opened)
    g = avatar.load_generator(resolved, opened)
    estimator = make_reader(resolved)
    label25 = _camera(resolved, opened)
    z = _latents(resolved, opened)
    seeds = config.first_seed + np.arange(len(z))
    w, frames = _render(g, z, seeds, label25, config, resolved.generator)
    readings = _read_codes(estimator, frames, seeds)
    found = np.flatnonzero(readings.found)
    if len(found) < _MIN_PAIRS:
        raise errors.EstimatorError(
            f"the estimator {resolved.estimator.name!r} read {len(found)} of {len(seeds)} "
            f"frontal renders; expected at least {_MIN_PAIRS}. Train the GAN longer (look at "
            f"samples/gan)."
        )
    pairs = {
        "image": frames[found],
        "w": w[found],
        "code": readings.codes[found].astype(np.float32),
        "confidence": readings.confidence[found].astype(np.float32),
        "seed": seeds[found].astype(np.int64),
    }
    # No latent comes twice, so the last pairs are as good a held-out set as any.
    held_out = max(1, round(len(found) * config.validation_fraction))
    split = max(1, len(found) - held_out)
    expression_pairs.write_pairs(
        prepare_data.dataset_folder(opened),
        {name: values[:split] for name, values in pairs.items()},
        {name: values[split:] for name, values in pairs.items()},
        names=estimator.names,
        metadata={"label25": [float(v) for v in label25]},
    )
    spread = readings.codes[found].std(axis=0)
    info: dict[str, Any] = {
        "sampled": len(seeds),
        "read": len(found),
        "skipped": len(seeds) - len(found),
        "code_std": dict(zip(estimator.names, map(float, spread), strict=True)),
    }
    media.save_png(
        opened.folder("samples", "frontals") / "frontals.png",
        media.tile_sheet(frames[:64], columns=8),
    )
    completeness.finish(begun, resolved, opened, info)


def _read_codes(
    estimator: estimation.Estimator, frames: np.ndarray, seeds: np.ndarray
) -> estimation.Readings:
    with progress.Progress(len(frames), unit="frame", title="estimate", every_s=10) as bar:
        return estimation.estimate_many(
            estimator,
            frames,
            frames=[f"{seed:05d}" for seed in seeds],
            progress=lambda done, skipped: bar.update(
                done - bar.done, metrics={"skipped": skipped}
            ),
        )


def _camera(
    resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir
) -> Float[np.ndarray, "25"]:
    """Makes the frontal camera; says so where options of it are not looked at."""
    config, original = resolved.frontal, experiment_config.FrontalConfig()
    if config.camera == "fixed":
        return avatar.frontal_label25(config)
    unused = [
        name
        for name in ("radius", "focal", "principal_point")
        if getattr(config, name) != getattr(original, name)
    ]
    if unused:
        _LOG.warning(
            "frontal.%s: not used, the camera is the capture's; frontal.camera=fixed takes it",
            ", frontal.".join(unused),
        )
    capture = frame_table.load_label25(prepare_data.dataset_folder(opened), "train")
    return avatar.frontal_label25(config, capture)


def _latents(resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir) -> np.ndarray:
    """Draws latents, or encodes training images: each image once at most."""
    g_config, gan, config = resolved.generator, resolved.gan, resolved.frontal
    if config.latents == "prior":
        seeds = config.first_seed + np.arange(config.count)
        drawn = [np.random.RandomState(seed).randn(g_config.z_dim) for seed in seeds]
        return np.stack(drawn).astype(np.float32)
    if not gan.reconstruct:
        raise errors.ConfigError(
            'frontal.latents="encoder" needs an encoder; got a run without one. Set '
            'gan.reconstruct=True and train, or frontal.latents="prior".'
        )
    abstract = weights.abstract_encoder(gan.reconstruction.encoder, g_config)
    e = weights.load_network(train_gan.export_folder(opened) / weights.ENCODER, abstract)
    table = frame_table.load_split(
        prepare_data.dataset_folder(opened),
        "train",
        cache_limit_mb=resolved.data.cache_limit_mb,
        skip_damaged=resolved.data.skip_damaged,
    )
    # A random frame for every seed. A second time it would be the same pair: nothing to learn, and
    # held-out pairs would be among those trained on.
    order = np.random.default_rng(config.first_seed).permutation(len(table.frame_id))
    chosen = order[: config.count]
    if len(chosen) < config.count:
        _LOG.warning(
            "frontal.count asks for %d pairs; %d training images give a latent each",
            config.count,
            len(chosen),
        )

    @jax.jit
    def encode(e: dict[str, Any], image_u8: jax.Array, label25: jax.Array) -> jax.Array:
        image = images.from_u8(image_u8)
        return encoder.apply(e, image, label25, gan.reconstruction.encoder, z_dim=g_config.z_dim)

    chunk = min(config.batch_size, len(chosen))
    frames = image_sequences.Rows(table.image, chosen), table.label25[chosen]
    encoded = chunks.map_in_chunks(lambda arrays: encode(e, *arrays), frames, chunk=chunk)
    return np.asarray(encoded)


def _render(
    g: dict[str, Any],
    z: np.ndarray,
    seeds: np.ndarray,
    label25: np.ndarray,
    config: experiment_config.FrontalConfig,
    g_config: generator_config.GeneratorConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """Renders each latent from the frontal camera, and keeps the w that gives that image."""
    root = rng.stream(jax.random.key(0), "frontals")

    @jax.jit
    def draw(g: dict[str, Any], z: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        w_avg = g["buffers"]["backbone"]["mapping"]["w_avg"]
        label = jnp.broadcast_to(jnp.asarray(label25)[None], (z.shape[0], 25))
        ws = generator.broadcast(generator.map_latent(g, z, label, g_config), g_config)
        ws = mapping.truncate(ws, w_avg, psi=config.psi, cutoff=config.cutoff or None)
        draws = generator.make_draws(
            root if config.random_noise else None,
            ids,
            g_config,
            resolution=g_config.neural_resolution,
        )
        out = generator.synthesize(g, ws, label, g_config, draws=draws)
        return ws[:, 0], out.image

    with progress.Progress(
        len(z), unit="frame", title="frontals", every_s=10, compiles=True
    ) as bar:

        def counted(arrays: Any) -> tuple[jax.Array, np.ndarray]:
            w, image = draw(g, *arrays)
            result = w, images.to_u8(image)
            bar.update(min(len(arrays[0]), len(z) - bar.done))
            return result

        chunk = min(config.batch_size, len(z))
        arrays = (z, seeds.astype(np.int32))
        return chunks.map_in_chunks(counted, arrays, chunk=chunk)
