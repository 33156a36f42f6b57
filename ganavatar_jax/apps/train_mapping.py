"""Task train_mapping: expression code to w, through the frozen generator."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ganavatar_jax.apps import avatar, completeness, experiment, experiment_config, prepare_data
from ganavatar_jax.core import chunks, errors, portable, rng
from ganavatar_jax.data.builders import expression_pairs
from ganavatar_jax.faces import coefficients, normalization, turned_readings
from ganavatar_jax.models import expression_mapping, linear_codes
from ganavatar_jax.runs import metric_writer, progress, run_dir
from ganavatar_jax.training import mapping_config, mapping_step

STAGE = "train_mapping"


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Trains the mapping network on the pairs of make_frontals.

    Args:
      config: What a file in configs/ returns.
      workdir: The run folder.

    Raises:
      RunError: make_frontals is not complete.
      ConfigError: a coefficient asked for is not in the estimator's codes.

    Source: GAN-Avatar (Kabadayi et al. 2024), section on the mapping network.
    """
    with experiment.hold_run(config, workdir) as (resolved, opened):
        train(resolved, opened)


@dataclasses.dataclass(frozen=True)
class _Pairs:
    image: np.ndarray
    w: np.ndarray
    code: np.ndarray

    @classmethod
    def from_stored(
        cls, split: dict[str, Any], normalizer: normalization.CodeNormalizer
    ) -> "_Pairs":
        codes = coefficients.select(split["code"], split["names"], normalizer.names)
        return cls(split["image"], split["w"], np.asarray(normalizer.apply(codes), np.float32))

    def with_codes(self, codes: np.ndarray) -> "_Pairs":
        return dataclasses.replace(self, code=np.asarray(codes, np.float32))

    def batch(self, rows: np.ndarray, shared: dict[str, Any]) -> dict[str, Any]:
        return {
            "image_u8": self.image[rows],
            "w": self.w[rows],
            "code": self.code[rows],
            **shared,
        }


def train(resolved: experiment_config.ExperimentConfig, opened: run_dir.RunDir) -> None:
    """Trains the latent steps, then the photometric steps; keeps the best on held-out pairs.

    Args:
      resolved: The configuration.
      opened: The run.

    Raises:
      RunError: make_frontals is not complete.
      ConfigError: a coefficient asked for is not in the estimator's codes.

    Source: GAN-Avatar (Kabadayi et al. 2024); validation on held-out pairs is ours.
    """
    begun = completeness.begin(STAGE, resolved, opened)
    config = resolved.mapping
    folder = prepare_data.dataset_folder(opened)
    stored = {s: expression_pairs.load_pairs(folder, s) for s in ("train", "validation")}
    experiment.refuse_unread(config.coefficients, stored["train"]["names"], resolved.estimator)
    normalizer = _fit_normalizer(stored["train"], config)
    pairs = {name: _Pairs.from_stored(split, normalizer) for name, split in stored.items()}
    linear = linear_codes.fit(pairs["train"].w, pairs["train"].code) if config.invert else None
    if linear is not None:
        pairs = {name: part.with_codes(linear.read(part.w)) for name, part in pairs.items()}
    w_dim = pairs["train"].w.shape[1]
    mean_w = pairs["train"].w.mean(axis=0) if config.center_on_mean else np.zeros(w_dim)
    label25 = stored["train"]["metadata"]["label25"]
    spread = normalizer.require_statistics().normalized_std
    shared = {
        "mean_w": jnp.asarray(mean_w, jnp.float32),
        "label25": jnp.asarray(label25, jnp.float32),
        # Noise is in normalised units; what is fed raw has none of its own.
        "code_spread": jnp.asarray(
            spread if config.normalization == "none" else np.ones_like(spread), jnp.float32
        ),
    }
    params = expression_mapping.init(
        jax.random.key(config.seed),
        config.network,
        code_dim=pairs["train"].code.shape[1],
        w_dim=w_dim,
    )
    if linear is not None:
        params = _start(params, linear, mean_w, config)
    g = avatar.load_generator(resolved, opened)
    params, best = _optimize(params, g, pairs, shared, resolved, opened)
    portable.save_params(
        opened.folder("checkpoints", "export") / avatar.MAPPING_FILE,
        {
            "params": jax.tree.map(np.asarray, params),
            "buffers": {"mean_w": np.asarray(mean_w, np.float32)},
        },
        {
            "kind": avatar.MAPPING_KIND,
            "mapping": dataclasses.asdict(config),
            "normalizer": normalizer.to_dict(),
            "frontal_label25": label25,
            **_turned(stored["train"]["metadata"], normalizer.names),
        },
    )
    info = {"validation": best, "coefficients": list(normalizer.names)}
    completeness.finish(begun, resolved, opened, info)


def _turned(metadata: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """What the pairs tell of turned heads, of the coefficients that drive."""
    if "turned" not in metadata:
        return {}
    return {"turned": turned_readings.from_dict(metadata["turned"]).select(names).to_dict()}


def _fit_normalizer(
    pairs: dict[str, Any], config: mapping_config.MappingConfig
) -> normalization.CodeNormalizer:
    names = config.coefficients or coefficients.driving(pairs["names"])
    codes = coefficients.select(pairs["code"], pairs["names"], names)
    if config.components > len(names):
        raise errors.ConfigError(
            f"mapping.components: expected at most the {len(names)} coefficients of the code; got "
            f"{config.components}. Set it to 0 to keep all."
        )
    return normalization.fit(
        codes, names, method=config.normalization, components=config.components or None
    )


def _start(
    params: Any,
    linear: linear_codes.LinearCodes,
    mean_w: np.ndarray,
    config: mapping_config.MappingConfig,
) -> Any:
    """Sets the network to the most likely w of each code."""
    bias = linear.mean_w - mean_w - linear.mean_code @ linear.backward
    try:
        return expression_mapping.start_linear(params, linear.backward, bias, config.network)
    except ValueError as error:
        raise errors.ConfigError(
            f"mapping.invert: {error} Set mapping.network.width, or name fewer coefficients in "
            "mapping.coefficients."
        ) from error


def _optimize(
    params: Any,
    g: Any,
    pairs: dict[str, _Pairs],
    shared: dict[str, Any],
    resolved: experiment_config.ExperimentConfig,
    opened: run_dir.RunDir,
) -> tuple[Any, dict[str, float]]:
    """Takes the latent steps, then the photometric ones; keeps what did best on held-out pairs."""
    config = resolved.mapping
    total = config.latent_steps + config.steps
    root = rng.stream(jax.random.key(config.seed), STAGE)
    best: dict[str, float] = {"score": float("inf")}
    best_params = params
    writer = metric_writer.MetricWriter(
        opened.metrics,
        stage=STAGE,
        resumed_step=None,
        tensorboard_dir=opened.folder("tensorboard", "mapping") if resolved.tensorboard else None,
        wandb=resolved.wandb,
        primary=opened.primary,
    )
    bar = progress.Progress(total, unit="it", title=STAGE, every_s=10, compiles=True)
    validate = _validator(g, pairs["validation"], shared, resolved)
    photometric_last = config.steps > 0
    name_of_score = "photometric" if photometric_last else "latent"
    if config.invert:  # what it starts with is worth keeping
        held_out = validate(params)
        best = {"score": held_out[name_of_score], "step": 0, **held_out}
    with writer, bar:
        done = 0
        for photometric, count in ((False, config.latent_steps), (True, config.steps)):
            optimizer, step = mapping_step.make_step(
                config, resolved.generator, photometric=photometric
            )
            opt_state = optimizer.init(params)
            order = np.random.default_rng((config.seed, int(photometric)))
            for local in range(count):
                size = min(config.batch_size, len(pairs["train"].w))
                rows = order.choice(len(pairs["train"].w), size=size, replace=False)
                batch = pairs["train"].batch(rows, shared)
                if not photometric:
                    del batch["image_u8"]  # not used: do not ship it to the device
                key = rng.stream(root, "noise", done)
                params, opt_state, values = step(params, opt_state, g, batch, key)
                done += 1
                if (local + 1) % config.validate_every == 0 or local + 1 == count:
                    held_out = validate(params)
                    metrics = {f"train/{k}": v for k, v in values.items()}
                    metrics |= {f"validation/{k}": v for k, v in held_out.items()}
                    floats = metric_writer.to_floats(metrics)
                    metric_writer.check_finite(floats, step=done, stage=STAGE)
                    writer.write(done, kimg=done * size / 1000, metrics=floats)
                    score = held_out[name_of_score]
                    if score < best["score"]:
                        best, best_params = {"score": score, "step": done, **held_out}, params
                bar.update(1)
    return best_params, best


def _validator(
    g: Any, pairs: _Pairs, shared: dict[str, Any], resolved: experiment_config.ExperimentConfig
):
    """Makes the function that gives the mean losses over all held-out pairs."""
    config = resolved.mapping
    photometric = config.steps > 0

    @jax.jit
    def evaluate(params: Any, g: Any, batch: dict[str, Any]) -> dict[str, jax.Array]:
        return mapping_step.pair_losses(
            params, g, batch, config=config, g_config=resolved.generator, photometric=photometric
        )

    def validate(params: Any) -> dict[str, float]:
        values = chunks.map_in_chunks(
            lambda rows: evaluate(params, g, pairs.batch(rows, shared)),
            np.arange(len(pairs.w)),
            chunk=config.batch_size,
        )
        return {k: float(np.mean(v, dtype=np.float64)) for k, v in values.items()}

    return validate
