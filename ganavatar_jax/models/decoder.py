"""Decoder of tri-plane features: colour features and raw density."""

import flax.linen as nn
import jax

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.models import layers
from ganavatar_jax.ops import linear, softplus

RGB_PADDING = 0.001  # Mip-NeRF's padding: makes exact 0 and 1 reachable (quirk Q6)


class _Heads(nn.Module):
    """The last layer, its column for density apart from those for colours.

    Rows of colours alone are aligned in memory, and no gradients of slices are padded and added.
    """

    features: int
    lr_multiplier: float

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        init = nn.initializers.normal(1.0 / self.lr_multiplier)
        weight = self.param("weight", init, (x.shape[-1], 1 + self.features))
        bias = self.param("bias", nn.initializers.zeros, (1 + self.features,))
        parts = [(weight[:, :1], bias[:1]), (weight[:, 1:], bias[1:])]
        density, colors = (
            linear.linear(x, *part, lr_multiplier=self.lr_multiplier) for part in parts
        )
        return density[..., 0], colors


class _Net(nn.Module):
    hidden: int
    features: int
    lr_multiplier: float

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        x = layers.Linear(self.hidden, lr_multiplier=self.lr_multiplier, name="0")(x)
        return _Heads(self.features, self.lr_multiplier, name="2")(softplus.softplus(x))


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
        density, out = _Net(self.hidden, self.features, self.lr_multiplier, name="net")(x)
        return jax.nn.sigmoid(out) * (1 + 2 * RGB_PADDING) - RGB_PADDING, density
