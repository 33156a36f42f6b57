"""Mapping networks: latent and camera to w (generator), camera alone (discriminator)."""

import flax.linen as nn
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.models import layers
from ganavatar_jax.ops import linear as linear_lib

LR_MULTIPLIER = 0.01  # of all mapping layers but the label embedding (Karras et al. 2019)
W_AVG_BETA = 0.998  # decay of the running mean of w, per batch


class Mapping(nn.Module):
    """Normalises and embeds its inputs, then applies fully connected layers.

    Attributes:
      features: Width of all layers, and of the output.
      num_layers: Fully connected layers after the embedding.
      has_latent: Whether a latent z comes in beside the label.
      has_average: Whether the running mean of the output is stored.

    Source: Karras et al. 2019; EG3D (Chan et al. 2022), section 4.
    """

    features: int
    num_layers: int
    has_latent: bool
    has_average: bool

    @nn.compact
    def __call__(
        self, z: Float[Array, "b z"] | None, label: Float[Array, "b k"]
    ) -> Float[Array, "b d"]:
        """Maps to one w per sample (before any broadcast or truncation)."""
        x = layers.Linear(self.features, name="embed")(label.astype(jnp.float32))
        x = linear_lib.normalize_second_moment(x)
        if self.has_latent:
            assert z is not None  # has_latent promises one
            latent = linear_lib.normalize_second_moment(z.astype(jnp.float32))
            x = jnp.concatenate([latent, x], axis=-1)
        for index in range(self.num_layers):
            x = layers.Linear(
                self.features,
                activation="lrelu",
                lr_multiplier=LR_MULTIPLIER,
                name=f"fc{index}",
            )(x)
        if self.has_average:
            self.variable("buffers", "w_avg", jnp.zeros, (self.features,))
        return x


def truncate(
    ws: Float[Array, "b l d"],
    w_avg: Float[Array, " d"],
    *,
    psi: float,
    cutoff: int | None = None,
) -> Float[Array, "b l d"]:
    """Pulls the first rows of ws towards the average.

    Args:
      ws: One latent per layer.
      w_avg: Running mean of w.
      psi: 1 keeps ws, 0 gives the average.
      cutoff: Number of rows pulled; None means all.

    Returns:
      Truncated latents.

    Source: Karras et al. 2019, truncation trick.
    """
    if psi == 1.0:
        return ws
    rows = ws.shape[1] if cutoff is None else cutoff
    centre = w_avg[None, None]
    head = centre + psi * (ws[:, :rows] - centre)
    return jnp.concatenate([head, ws[:, rows:]], axis=1)


def update_average(w_avg: Float[Array, " d"], w: Float[Array, "b d"]) -> Float[Array, " d"]:
    """Moves the running mean of w towards the mean of a batch.

    Args:
      w_avg: Running mean.
      w: Latents of a batch.

    Returns:
      mean + 0.998 (w_avg - mean).

    Source: EG3D reference behaviour.
    """
    mean = jnp.mean(w, axis=0)
    return mean + W_AVG_BETA * (w_avg - mean)
