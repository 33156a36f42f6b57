"""Image encoder: an image to the latent z that the generator turns back into it.

Not part of the original method. Where no pretrained generator is at hand, encoder and generator
trained together on the reconstruction of posed images learn a person's head in minutes, and the
adversarial phases then take over; see GanConfig.reconstruction.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float, PRNGKeyArray
from ganavatar_jax.models import layers, synthesis

_PROBE_WIDTH = 64


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the encoder.

    Attributes:
      channel_base: Channels times side of a block.
      channel_max: Most channels of a block.
    """

    channel_base: int = 1024
    channel_max: int = 128


class Probe(nn.Module):
    """A small network that tells something of the latent; trained beside the encoder.

    Attributes:
      features: How many numbers it tells.

    Source: ours; adversarial probes after Ganin and Lempitsky 2015.
    """

    features: int

    @nn.compact
    def __call__(self, z: Float[Array, "b z"]) -> Float[Array, "b e"]:
        """Tells the numbers."""
        hidden = layers.Linear(_PROBE_WIDTH, activation="lrelu", name="fc0")(z)
        return layers.Linear(self.features, name="out")(hidden)


class Encoder(nn.Module):
    """Strided convolutions down to 4x4, then one linear layer.

    Attributes:
      config: Sizes.
      resolution: Side of the images, pixels.
      z_dim: Length of the latent.

    Source: ours; equalised layers of Karras et al. 2018.
    """

    config: EncoderConfig
    resolution: int
    z_dim: int

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b z"]:
        """Encodes images to latents (of any length: the mapping normalises them)."""
        x = image
        for side in reversed(synthesis.block_resolutions(self.resolution, first=8)):
            width = synthesis.channels_at(
                side, base=self.config.channel_base, maximum=self.config.channel_max
            )
            x = layers.Conv(width, 3, down=True, name=f"b{side}")(x)
        return layers.Linear(self.z_dim, name="out")(x.reshape(x.shape[0], -1))


def init(
    key: PRNGKeyArray, config: EncoderConfig, *, resolution: int, z_dim: int
) -> dict[str, Any]:
    """Makes fresh parameters.

    Args:
      key: Random key.
      config: Sizes.
      resolution: Side of the images, pixels.
      z_dim: Length of the latent.

    Returns:
      {"params": ...} as plain nested dicts.

    Source: Karras et al. 2018 (unit normal weights, equalised at run time).
    """
    image = jnp.zeros((1, resolution, resolution, 3))
    return jax.jit(Encoder(config, resolution, z_dim).init)(key, image)


def apply(
    variables: dict[str, Any], image: Float[Array, "b h w 3"], config: EncoderConfig, *, z_dim: int
) -> Float[Array, "b z"]:
    """Encodes images.

    Args:
      variables: Encoder variables.
      image: Images, [-1, 1].
      config: Sizes.
      z_dim: Length of the latent.

    Returns:
      One latent an image, with root mean square one.

    Source: ours.
    """
    trunk = {"params": variables["params"]}  # probes may lie beside it
    z: Any = Encoder(config, image.shape[1], z_dim).apply(trunk, image)
    return z * jax.lax.rsqrt(jnp.mean(jnp.square(z), axis=-1, keepdims=True) + 1e-8)


def init_probe(key: PRNGKeyArray, *, z_dim: int, features: int) -> dict[str, Any]:
    """Makes fresh parameters of a probe.

    Args:
      key: Random key.
      z_dim: Length of the latent.
      features: How many numbers it tells.

    Returns:
      Parameters as plain nested dicts.

    Source: Karras et al. 2018 (unit normal weights, equalised at run time).
    """
    return jax.jit(Probe(features).init)(key, jnp.zeros((1, z_dim)))["params"]


def apply_probe(
    params: dict[str, Any], z: Float[Array, "b z"], *, features: int
) -> Float[Array, "b e"]:
    """Tells numbers of latents.

    Args:
      params: Parameters of the probe.
      z: Latents.
      features: How many numbers it tells.

    Returns:
      The numbers.

    Source: ours.
    """
    told: Any = Probe(features).apply({"params": params}, z)
    return told


def reverse_gradient(z: Float[Array, "b z"], strength: float) -> Float[Array, "b z"]:
    """Passes latents on and sends their gradient back with the opposite sign.

    Args:
      z: Latents.
      strength: Factor on the reversed gradient.

    Returns:
      The same values.

    Source: Ganin and Lempitsky 2015 (gradient reversal).
    """
    return z + (1.0 + strength) * (jax.lax.stop_gradient(z) - z)
