"""Decoder of tri-plane features: colour features and raw density."""

import flax.linen as nn
import jax

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.models import layers
from ganavatar_jax.ops import softplus

RGB_PADDING = 0.001  # Mip-NeRF's padding: makes exact 0 and 1 reachable (quirk Q6)


class _Net(nn.Module):
    hidden: int
    features: int
    lr_multiplier: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = layers.Linear(self.hidden, lr_multiplier=self.lr_multiplier, name="0")(x)
        x = softplus.softplus(x)
        return layers.Linear(self.features, lr_multiplier=self.lr_multiplier, name="2")(x)


class Decoder(nn.Module):
    """Two fully connected layers with softplus between them.

    Attributes:
      hidden: Width of the hidden layer.
      features: Colour features put out beside the density.
      lr_multiplier: Run-time scale of weights and biases.

    Source: EG3D (Chan et al. 2022), section 4.1; supplement.
    """

    hidden: int = 64
    features: int = 32
    lr_multiplier: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"]) -> tuple[Float[Array, "*n k"], Float[Array, "*n"]]:
        """Decodes the mean of the planes to (features in (-0.001, 1.001), raw density)."""
        out = _Net(self.hidden, 1 + self.features, self.lr_multiplier, name="net")(x)
        colors = jax.nn.sigmoid(out[..., 1:]) * (1 + 2 * RGB_PADDING) - RGB_PADDING
        return colors, out[..., 0]
