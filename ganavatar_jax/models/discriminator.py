"""Dual discriminator: judges the final image together with the enlarged rendered image."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float, PRNGKeyArray
from ganavatar_jax.models import discriminator_config, layers, mapping, synthesis
from ganavatar_jax.ops import minibatch_stddev, resize


class _Block(nn.Module):
    config: discriminator_config.DiscriminatorConfig
    resolution: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        cfg = self.config

        def width(side: int) -> int:
            return synthesis.channels_at(side, base=cfg.channel_base, maximum=cfg.channel_max)

        top = int(math.log2(cfg.img_resolution)) + 1
        half = self.resolution >= max(2 ** (top - cfg.num_half_res), 8)
        x = x.astype(cfg.half_dtype if half else "float32")
        inner, outer = width(self.resolution), width(self.resolution // 2)
        clamp = cfg.conv_clamp
        if self.resolution == cfg.img_resolution:
            x = layers.Conv(inner, 1, clamp=clamp, name="fromrgb")(x)
        skip = layers.Conv(outer, 1, down=True, activation="linear", use_bias=False, name="skip")(
            x, gain=math.sqrt(0.5)
        )
        x = layers.Conv(inner, 3, clamp=clamp, name="conv0")(x)
        x = layers.Conv(outer, 3, down=True, clamp=clamp, name="conv1")(x, gain=math.sqrt(0.5))
        return skip + x


class _Epilogue(nn.Module):
    config: discriminator_config.DiscriminatorConfig

    @nn.compact
    def __call__(self, x: Array, cmap: Array) -> Array:
        cfg = self.config
        width = synthesis.channels_at(4, base=cfg.channel_base, maximum=cfg.channel_max)
        x = minibatch_stddev.minibatch_stddev(
            x.astype(jnp.float32),
            group_size=cfg.mbstd_group_size,
            block_size=cfg.mbstd_block_size,
        )
        x = layers.Conv(width, 3, clamp=cfg.conv_clamp, name="conv")(x)
        x = layers.Linear(width, activation="lrelu", name="fc")(x.reshape(x.shape[0], -1))
        x = layers.Linear(cmap.shape[-1], name="out")(x)
        return jnp.sum(x * cmap, axis=-1, keepdims=True) * cmap.shape[-1] ** -0.5


class Discriminator(nn.Module):
    """Residual discriminator on six channels, projected on an embedding of the camera.

    Attributes:
      config: Sizes.

    Source: EG3D (Chan et al. 2022), section 4.3; Karras et al. 2020.
    """

    config: discriminator_config.DiscriminatorConfig

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "b h w 3"],
        image_raw: Float[Array, "b r r 3"],
        label25: Float[Array, "b 25"],
    ) -> Float[Array, "b 1"]:
        """Computes one logit a sample; high means real."""
        cfg = self.config
        raw = resize.resize(image_raw, cfg.img_resolution)
        x = jnp.concatenate([image, raw], axis=-1)
        for side in reversed(synthesis.block_resolutions(cfg.img_resolution, first=8)):
            x = _Block(cfg, side, name=f"b{side}")(x)
        width = synthesis.channels_at(4, base=cfg.channel_base, maximum=cfg.channel_max)
        cmap = mapping.Mapping(
            width,
            cfg.mapping_layers,
            has_latent=False,
            has_average=False,
            name="mapping",
        )(None, label25)
        return _Epilogue(cfg, name="b4")(x, cmap)


def init(key: PRNGKeyArray, config: discriminator_config.DiscriminatorConfig) -> dict[str, Any]:
    """Makes fresh parameters.

    Args:
      key: Random key.
      config: Sizes.

    Returns:
      {"params": ...} as plain nested dicts.

    Source: Karras et al. 2020 (unit normal weights, equalised at run time).
    """
    side, batch = config.img_resolution, config.mbstd_block_size or 1
    image, raw = jnp.zeros((batch, side, side, 3)), jnp.zeros((batch, 8, 8, 3))
    label = jnp.zeros((batch, config.label_dim))
    return jax.jit(Discriminator(config).init)(key, image, raw, label)


def apply(
    variables: dict[str, Any],
    image: Float[Array, "b h w 3"],
    image_raw: Float[Array, "b r r 3"],
    label25: Float[Array, "b 25"],
    config: discriminator_config.DiscriminatorConfig,
) -> Float[Array, "b 1"]:
    """Judges images.

    Args:
      variables: Discriminator variables.
      image: Final images, nominally [-1, 1].
      image_raw: Rendered images at the neural resolution.
      label25: Cameras of the images.
      config: Sizes.

    Returns:
      One logit a sample; high means real.

    Source: EG3D (Chan et al. 2022), section 4.3.
    """
    logits: Any = Discriminator(config).apply(variables, image, image_raw, label25)
    return logits
