"""Everything a GAN training carries from step to step: arrays only."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ganavatar_jax.core import rng, trees
from ganavatar_jax.core.arrays import Array, Float, PRNGKeyArray
from ganavatar_jax.models import (
    discriminator,
    discriminator_config,
    encoder,
    encoder_config,
    generator,
    generator_config,
)
from ganavatar_jax.training import adam_config, optimizers


@trees.pytree_dataclass
class GanState:
    """State of a GAN training.

    Attributes:
      g: Generator variables {"params", "buffers"}.
      d: Discriminator variables {"params"}.
      g_ema: Averaged generator variables.
      g_opt: Optimiser state of the generator.
      d_opt: Optimiser state of the discriminator.
      e: Encoder variables {"params", "buffers", "probes"}; empty without reconstruction.
      recon_opt: Optimiser state of the reconstruction, over {"g", "e", "probes"}; empty without
        it.
      augment_p: Probability of each augmentation, [0, 1].
      real_sign: Sum and count of the signs of real logits since the last adaptation, [2].
    """

    g: Any
    d: Any
    g_ema: Any
    g_opt: optimizers.AdamState
    d_opt: optimizers.AdamState
    e: Any
    recon_opt: Any
    augment_p: Float[Array, ""]
    real_sign: Float[Array, "2"]


def make_state(
    key: PRNGKeyArray,
    g_config: generator_config.GeneratorConfig,
    d_config: discriminator_config.DiscriminatorConfig,
    g_adam: adam_config.AdamConfig,
    d_adam: adam_config.AdamConfig,
    *,
    e: dict[str, Any] | None = None,
    recon_adam: adam_config.AdamConfig | None = None,
    augment_p: float = 0.0,
) -> GanState:
    """Makes a fresh state.

    Args:
      key: Random key.
      g_config: Sizes of the generator.
      d_config: Sizes of the discriminator.
      g_adam: Optimiser of the generator.
      d_adam: Optimiser of the discriminator.
      e: Encoder variables, where images are also reconstructed.
      recon_adam: Optimiser of the reconstruction.
      augment_p: Initial probability of each augmentation.

    Returns:
      Fresh networks, their average, zero moments.
    """
    g = generator.init(rng.stream(key, "init.g"), g_config)
    d = discriminator.init(rng.stream(key, "init.d"), d_config)
    return from_networks(g, d, g, g_adam, d_adam, e=e, recon_adam=recon_adam, augment_p=augment_p)


def make_encoder(
    key: PRNGKeyArray,
    config: encoder_config.EncoderConfig,
    g_config: generator_config.GeneratorConfig,
    *,
    probes: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Makes a fresh encoder for a generator.

    Args:
      key: Random key of the run.
      config: Sizes.
      g_config: The generator it feeds.
      probes: How many numbers each probe of the learned latent tells.

    Returns:
      Encoder variables {"params", "buffers", "probes"}.
    """
    trunk = encoder.init(
        rng.stream(key, "init.e"),
        config,
        resolution=g_config.img_resolution,
        z_dim=g_config.z_dim,
    )
    return {
        **trunk,
        "probes": {
            name: encoder.init_probe(
                rng.stream(key, f"init.probe.{name}"),
                z_dim=g_config.z_dim - config.face_dim,
                features=features,
            )
            for name, features in (probes or {}).items()
        },
    }


def from_networks(
    g: dict[str, Any],
    d: dict[str, Any],
    g_ema: dict[str, Any],
    g_adam: adam_config.AdamConfig,
    d_adam: adam_config.AdamConfig,
    *,
    e: dict[str, Any] | None = None,
    recon_adam: adam_config.AdamConfig | None = None,
    augment_p: float = 0.0,
) -> GanState:
    """Makes a state around given networks, e.g. a pretrained start.

    Args:
      g: Generator variables.
      d: Discriminator variables.
      g_ema: Averaged generator variables.
      g_adam: Optimiser of the generator.
      d_adam: Optimiser of the discriminator.
      e: Encoder variables, where the images are also reconstructed.
      recon_adam: Optimiser of the reconstruction.
      augment_p: Initial probability of each augmentation.

    Returns:
      The state; optimiser moments start at zero, as in the original's resume.

    Source: EG3D reference behaviour (optimiser state is not restored from a snapshot).
    """
    return GanState(
        g=g,
        d=d,
        # A copy: a donated state must not hold one array twice.
        g_ema=jax.tree.map(jnp.copy, g_ema),
        g_opt=optimizers.init(g["params"], g_adam),
        d_opt=optimizers.init(d["params"], d_adam),
        e={} if e is None else e,
        recon_opt={}
        if e is None or recon_adam is None
        else optimizers.init(recon_params(g, e), recon_adam),
        augment_p=jnp.asarray(augment_p, jnp.float32),
        real_sign=jnp.zeros((2,), jnp.float32),
    )


def recon_params(g: dict[str, Any], e: dict[str, Any]) -> dict[str, Any]:
    """Gathers what the reconstruction phase trains.

    Args:
      g: Generator variables.
      e: Encoder variables.

    Returns:
      {"g", "e"} and, if there are any, "probes".
    """
    probes = {"probes": e["probes"]} if e["probes"] else {}
    return {"g": g["params"], "e": e["params"], **probes}
