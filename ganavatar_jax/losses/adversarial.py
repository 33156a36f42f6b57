"""Non-saturating adversarial losses on logits; high logits mean real."""

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float


def generator_loss(fake_logits: Float[Array, "b 1"]) -> Float[Array, ""]:
    """Averages softplus(-logit) of generated images.

    Args:
      fake_logits: Logits of generated images.

    Returns:
      The generator's loss.

    Source: Goodfellow et al. 2014 (non-saturating form); EG3D phase Gmain.
    """
    return jnp.mean(jax.nn.softplus(-fake_logits))


def discriminator_loss(
    fake_logits: Float[Array, "b 1"], real_logits: Float[Array, "b 1"]
) -> Float[Array, ""]:
    """Adds mean softplus(fake logit) and mean softplus(-real logit).

    Args:
      fake_logits: Logits of generated images.
      real_logits: Logits of real images.

    Returns:
      The discriminator's loss.

    Source: Goodfellow et al. 2014; EG3D phase Dmain.
    """
    fake, real = jax.nn.softplus(fake_logits), jax.nn.softplus(-real_logits)
    return jnp.mean(fake) + jnp.mean(real)
