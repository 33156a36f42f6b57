"""One step of training the mapping network through the frozen generator.

`batch` holds image_u8 [b h w 3], w [b d] and code [b e] (normalised), and what all pairs share:
mean_w [d], label25 [25] and code_spread [e], the unit of the noise on codes. The photometric loss
is in 0..255 units without a clamp, as in the original (quirk Q10).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.models import expression_mapping, generator, generator_config
from ganavatar_jax.training import mapping_config


def predict_w(
    params: Mapping[str, Any],
    mean_w: Float[Array, " d"],
    code: Float[Array, "b e"],
    config: mapping_config.MappingConfig,
) -> Float[Array, "b d"]:
    """Maps normalised codes to w.

    Args:
      params: Parameters of the mapping network.
      mean_w: Mean w of the pairs, or zeros.
      code: Normalised codes.
      config: Options.

    Returns:
      One w a sample.

    Source: GAN-Avatar (Kabadayi et al. 2024); the mean is ours.
    """
    return expression_mapping.apply(dict(params), code, config.network) + mean_w[None]


def losses(
    params: Mapping[str, Any],
    g: Mapping[str, Any],
    batch: Mapping[str, Array],
    *,
    config: mapping_config.MappingConfig,
    g_config: generator_config.GeneratorConfig,
    photometric: bool,
) -> dict[str, Float[Array, ""]]:
    """Computes the losses of a batch.

    Args:
      params: Parameters of the mapping network.
      g: Frozen generator variables.
      batch: image_u8, w, code, mean_w [d] and label25 [25], the frontal camera.
      config: Options.
      g_config: Generator.
      photometric: Whether to render.

    Returns:
      latent (mean |w difference|) and, if asked for, photometric (mean |difference|, 0..255).

    Source: GAN-Avatar (Kabadayi et al. 2024), equation 2 and appendix.
    """
    values = pair_losses(
        params, g, batch, config=config, g_config=g_config, photometric=photometric
    )
    return {name: jnp.mean(value) for name, value in values.items()}


def pair_losses(
    params: Mapping[str, Any],
    g: Mapping[str, Any],
    batch: Mapping[str, Array],
    *,
    config: mapping_config.MappingConfig,
    g_config: generator_config.GeneratorConfig,
    photometric: bool,
) -> dict[str, Float[Array, " b"]]:
    """Computes the losses of each pair by itself.

    Args:
      params: Parameters of the mapping network.
      g: Frozen generator variables.
      batch: As for `losses`.
      config: Options.
      g_config: Generator.
      photometric: Whether to render.

    Returns:
      The same as `losses`, one number a pair.

    Source: GAN-Avatar (Kabadayi et al. 2024), equation 2 and appendix.
    """
    w = predict_w(params, batch["mean_w"], batch["code"], config)
    values = {"latent": jnp.mean(jnp.abs(w - batch["w"]), axis=1)}
    if photometric:
        label = jnp.broadcast_to(batch["label25"][None], (w.shape[0], 25))
        out = generator.synthesize(dict(g), generator.broadcast(w, g_config), label, g_config)
        target = batch["image_u8"].astype(jnp.float32)
        apart = jnp.abs(out.image * 127.5 + 128.0 - target)
        values["photometric"] = jnp.mean(apart, axis=(1, 2, 3))
    return values


def make_step(
    config: mapping_config.MappingConfig,
    g_config: generator_config.GeneratorConfig,
    *,
    photometric: bool,
) -> tuple[optax.GradientTransformation, Callable[..., Any]]:
    """Builds the optimiser and the compiled step.

    Args:
      config: Options.
      g_config: Generator.
      photometric: Whether to render.

    Returns:
      The optimiser, and step(params, opt_state, g, batch, key) -> (params, opt_state, losses).

    Source: Loshchilov and Hutter 2019 (AdamW).
    """
    lr = config.lr if photometric else config.latent_lr
    optimizer = optax.adamw(lr, weight_decay=config.weight_decay)

    def step(params: Any, opt_state: Any, g: Any, batch: Any, key: Any) -> Any:
        noise = jax.random.normal(key, batch["code"].shape) * config.code_noise
        noisy = {**batch, "code": batch["code"] + noise * batch["code_spread"][None]}

        def loss_fn(params: Any) -> tuple[Array, dict[str, Array]]:
            values = losses(
                params, g, noisy, config=config, g_config=g_config, photometric=photometric
            )
            if not photometric:
                return values["latent"], values
            total = config.photometric_weight * values["photometric"]
            return total + config.latent_weight * values["latent"], values

        gradients, values = jax.grad(loss_fn, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, values

    return optimizer, jax.jit(step)
