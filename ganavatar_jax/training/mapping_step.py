"""One step of training the mapping network through the frozen generator.

`batch` holds image_u8 [b h w 3], w [b d] and code [b e] (normalised). The photometric loss is in
0..255 units without a clamp, as in the original (quirk Q10).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.models import expression_mapping, generator


@dataclasses.dataclass(frozen=True)
class MappingConfig:
    """How the mapping network is trained.

    Attributes:
      network: Sizes of the network.
      coefficients: Names of the coefficients that drive the avatar; empty takes those
        of the estimator that ARKit has too, or all where it has none of them.
      normalization: "standardize" or "pca" (whitened); "none" feeds raw codes, as the original.
      components: Components kept by "pca"; 0 keeps all.
      center_on_mean: Whether the network's output is added to the mean w of the pairs.
      latent_steps: Steps with the latent loss alone, before the others; cheap, no rendering.
      steps: Steps with the photometric loss.
      batch_size: Pairs a step.
      lr: Learning rate of AdamW in the photometric steps.
      latent_lr: Learning rate of AdamW in the latent steps.
      weight_decay: Decoupled weight decay.
      photometric_weight: Weight of the L1 image loss (0..255 units).
      latent_weight: Weight of the L1 loss on w in the photometric steps.
      code_noise: Standard deviation of noise added to normalised codes (regularises).
      seed: Root of the randomness of this stage.
      validate_every: Steps between evaluations on held-out pairs.
    """

    network: expression_mapping.ExpressionMappingConfig = dataclasses.field(
        default_factory=expression_mapping.ExpressionMappingConfig
    )
    coefficients: tuple[str, ...] = ()
    normalization: Literal["none", "standardize", "pca"] = "standardize"
    components: int = 0
    center_on_mean: bool = True
    latent_steps: int = 0
    steps: int = 6000
    batch_size: int = 8
    lr: float = 1e-4
    latent_lr: float = 1e-3
    weight_decay: float = 0.0
    photometric_weight: float = 1.0
    latent_weight: float = 0.0
    code_noise: float = 0.0
    seed: int = 0
    validate_every: int = 200

    def __post_init__(self) -> None:
        if self.normalization not in ("none", "standardize", "pca"):
            raise ValueError(
                f"normalization must be none, standardize or pca; got {self.normalization!r}."
            )
        if self.batch_size < 1 or self.validate_every < 1:
            raise ValueError("batch_size and validate_every must be at least 1.")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative; got {self.seed}.")


def predict_w(
    params: Mapping[str, Any],
    mean_w: Float[Array, " d"],
    code: Float[Array, "b e"],
    config: MappingConfig,
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
    config: MappingConfig,
    g_config: generator.GeneratorConfig,
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
    w = predict_w(params, batch["mean_w"], batch["code"], config)
    values = {"latent": jnp.mean(jnp.abs(w - batch["w"]))}
    if photometric:
        label = jnp.broadcast_to(batch["label25"][None], (w.shape[0], 25))
        out = generator.synthesize(dict(g), generator.broadcast(w, g_config), label, g_config)
        target = batch["image_u8"].astype(jnp.float32)
        values["photometric"] = jnp.mean(jnp.abs(out.image * 127.5 + 128.0 - target))
    return values


def make_step(
    config: MappingConfig, g_config: generator.GeneratorConfig, *, photometric: bool
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
        noisy = {**batch, "code": batch["code"] + noise}

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
