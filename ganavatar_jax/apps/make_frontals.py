"""Task make_frontals: sample the generator frontally and read expression codes off the renders."""

import logging
import pathlib
from collections.abc import Callable
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
from ganavatar_jax.faces import coefficients, estimation, estimators, turned_readings
from ganavatar_jax.models import encoder, generator, generator_config, linear_codes, mapping
from ganavatar_jax.reports import media
from ganavatar_jax.runs import progress, run_dir

_LOG = logging.getLogger(__name__)

STAGE = "make_frontals"
_MIN_PAIRS = 8
_MIN_TURNED = 50  # ten numbers of each coefficient are learnt from them


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
    train = {name: values[:split] for name, values in pairs.items()}
    if config.rare:
        train = _add_rare(train, g, estimator, label25, resolved)
    metadata: dict[str, Any] = {"label25": [float(v) for v in label25]}
    if config.turned:
        turned = _compare_turned(train, g, estimator, resolved, opened)
        metadata |= {} if turned is None else {"turned": turned.to_dict()}
    expression_pairs.write_pairs(
        prepare_data.dataset_folder(opened),
        train,
        {name: values[split:] for name, values in pairs.items()},
        names=estimator.names,
        metadata=metadata,
    )
    spread = readings.codes[found].std(axis=0)
    info: dict[str, Any] = {
        "sampled": len(seeds),
        "read": len(found),
        "skipped": len(seeds) - len(found),
        "rare": len(train["w"]) - split,
        "code_std": dict(zip(estimator.names, map(float, spread), strict=True)),
    }
    _save_sheets(opened, {"frontals": frames, "rare": train["image"][split:]})
    completeness.finish(begun, resolved, opened, info)


def _save_sheets(opened: run_dir.RunDir, shown: dict[str, np.ndarray]) -> None:
    """Draws the first pictures of each kind."""
    for name, images_u8 in shown.items():
        if len(images_u8):
            sheet = media.tile_sheet(images_u8[:64], columns=8)
            media.save_png(opened.folder("samples", "frontals") / f"{name}.png", sheet)


def _add_rare(
    train: dict[str, np.ndarray],
    g: dict[str, Any],
    estimator: estimation.Estimator,
    label25: np.ndarray,
    resolved: experiment_config.ExperimentConfig,
) -> dict[str, np.ndarray]:
    """Adds pairs of expressions that the others hardly show; reads them like the others."""
    config, names = resolved.frontal, resolved.mapping.coefficients
    wanted = names or coefficients.driving(estimator.names)
    codes = coefficients.select(train["code"], estimator.names, wanted)
    w = linear_codes.exaggerate(
        linear_codes.fit(train["w"], codes),
        train["w"],
        count=config.rare,
        gain=config.rare_gain,
        reach=config.rare_reach,
        seed=config.first_seed,
    ).astype(np.float32)
    if not len(w):
        return train
    frames = _draw(g, w, np.tile(label25, (len(w), 1)), resolved, title="rare")
    seeds = config.first_seed + config.count + np.arange(len(w))
    readings = _read_codes(estimator, frames, seeds)
    found = np.flatnonzero(readings.found)
    rare = {
        "image": frames[found],
        "w": w[found],
        "code": readings.codes[found],
        "confidence": readings.confidence[found],
        "seed": seeds[found].astype(np.int64),
    }
    return {name: np.concatenate([values, rare[name]]) for name, values in train.items()}


def _compare_turned(
    train: dict[str, np.ndarray],
    g: dict[str, Any],
    estimator: estimation.Estimator,
    resolved: experiment_config.ExperimentConfig,
    opened: run_dir.RunDir,
) -> turned_readings.TurnedReadings | None:
    """Reads some pairs as the capture's cameras see them; None where few can be read."""
    label25 = frame_table.load_label25(prepare_data.dataset_folder(opened), "train")
    label25 = label25[turned_readings.angle_deg(label25) <= turned_readings.FAR_DEG]
    count = min(resolved.frontal.turned, len(train["w"]))
    if not len(label25) or not count:
        return None
    rng = np.random.default_rng(resolved.frontal.first_seed)
    rows = rng.permutation(len(train["w"]))[:count]
    views = label25[rng.integers(len(label25), size=count)]
    frames = _draw(g, train["w"][rows], views, resolved, title="turned")
    readings = _read_codes(estimator, frames, train["seed"][rows])
    found = readings.found
    near = found & (turned_readings.angle_deg(views) <= turned_readings.MAX_ANGLE_DEG)
    if near.sum() < _MIN_TURNED:
        _LOG.warning("%d faces of turned heads were read, too few to learn from", near.sum())
        return None
    # What w tells of the codes has no noise, which would pass for smaller factors.
    front = linear_codes.fit(train["w"], train["code"]).read(train["w"][rows])
    return turned_readings.fit(front[found], readings.codes[found], views[found], estimator.names)


def _draw(
    g: dict[str, Any],
    w: np.ndarray,
    label25: np.ndarray,
    resolved: experiment_config.ExperimentConfig,
    *,
    title: str,
) -> np.ndarray:
    """Renders some w, each from a camera of its own."""
    g_config = resolved.generator

    @jax.jit
    def draw(g: dict[str, Any], w: jax.Array, label: jax.Array) -> jax.Array:
        return generator.synthesize(g, generator.broadcast(w, g_config), label, g_config).image

    with progress.Progress(len(w), unit="frame", title=title, every_s=10, compiles=True) as bar:
        return _in_chunks(
            lambda w, label: images.to_u8(draw(g, w, label)),
            (w, np.asarray(label25, np.float32)),
            batch_size=resolved.frontal.batch_size,
            bar=bar,
        )


def _in_chunks(
    work: Callable[..., Any],
    arrays: tuple[np.ndarray, ...],
    *,
    batch_size: int,
    bar: progress.Progress,
) -> Any:
    """Works on a few samples at a time, and counts them."""
    count = len(arrays[0])

    def counted(part: Any) -> Any:
        result = work(*part)
        bar.update(min(len(part[0]), count - bar.done))
        return result

    return chunks.map_in_chunks(counted, arrays, chunk=min(batch_size, count))


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

    def work(z: np.ndarray, ids: np.ndarray) -> tuple[jax.Array, np.ndarray]:
        w, image = draw(g, z, ids)
        return w, images.to_u8(image)

    with progress.Progress(
        len(z), unit="frame", title="frontals", every_s=10, compiles=True
    ) as bar:
        arrays = (z, seeds.astype(np.int32))
        return _in_chunks(work, arrays, batch_size=config.batch_size, bar=bar)
