"""The generator's four networks and the tree their variables lie in.

`generator` applies each network to its own branch of the tree; the module here declares them
together, so that fresh variables get the original's names.
"""

import flax.linen as nn
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array
from ganavatar_jax.models import decoder, generator_config, mapping, superresolution, synthesis


def mapping_network(config: generator_config.GeneratorConfig) -> mapping.Mapping:
    """Describes the network at `backbone.mapping`.

    Args:
      config: Sizes.

    Returns:
      Latent and camera label to w.

    Source: EG3D (Chan et al. 2022), section 4.
    """
    return mapping.Mapping(config.w_dim, config.mapping_layers, has_latent=True, has_average=True)


def synthesis_network(config: generator_config.GeneratorConfig) -> synthesis.Synthesis:
    """Describes the network at `backbone.synthesis`.

    Args:
      config: Sizes.

    Returns:
      ws to the three planes' channels, side by side.

    Source: EG3D (Chan et al. 2022), section 4.1.
    """
    return synthesis.Synthesis(
        config.plane_resolution,
        3 * config.plane_channels,
        config.channel_base,
        config.channel_max,
        num_half_res=config.num_half_res,
        half_dtype=config.half_dtype,
        clamp=config.conv_clamp,
    )


def decoder_network(config: generator_config.GeneratorConfig) -> decoder.Decoder:
    """Describes the network at `decoder`.

    Args:
      config: Sizes.

    Returns:
      Plane features of points to colour features and density.

    Source: EG3D (Chan et al. 2022), section 4.1.
    """
    return decoder.Decoder(
        config.decoder_hidden, config.decoder_features, config.decoder_lr_multiplier
    )


def superresolution_network(
    config: generator_config.GeneratorConfig,
) -> superresolution.SuperResolution:
    """Describes the network at `superresolution`; there is none for the kind "none".

    Args:
      config: Sizes.

    Returns:
      Rendered features to the final image.

    Source: EG3D (Chan et al. 2022), section 4.3.
    """
    return superresolution.SuperResolution(
        config.superresolution,
        config.img_resolution,
        config.superresolution_channels,
        antialias=config.superresolution_antialias,
        clamp=config.superresolution_clamp,
        dtype=config.half_dtype if config.superresolution_half else "float32",
    )


class _Backbone(nn.Module):
    config: generator_config.GeneratorConfig

    def setup(self) -> None:
        self.mapping = mapping_network(self.config)
        self.synthesis = synthesis_network(self.config)


class Generator(nn.Module):
    """All four networks under the original's names; it serves to make fresh variables.

    Attributes:
      config: Sizes and options.

    Source: EG3D (Chan et al. 2022); GAN-Avatar (Kabadayi et al. 2024) for the options.
    """

    config: generator_config.GeneratorConfig

    def setup(self) -> None:
        """Declares the submodules under the original's names."""
        self.backbone = _Backbone(self.config)
        self.decoder = decoder_network(self.config)
        if self.config.superresolution != "none":
            self.superresolution = superresolution_network(self.config)

    def __call__(self, z: Array, label25: Array) -> Array:
        """Runs every network once on tiny inputs, to create the variables."""
        cfg = self.config
        w = self.backbone.mapping(z, label25)
        flat = self.backbone.synthesis(jnp.repeat(w[:, None], cfg.num_ws, axis=1), "const")
        texel = flat[:, 0, 0].reshape(-1, 1, 3, cfg.plane_channels)
        colors, _ = self.decoder(jnp.mean(texel, axis=2))
        if cfg.superresolution == "none":
            return colors
        side = 8
        features = jnp.zeros((z.shape[0], side, side, cfg.decoder_features)) + colors[:, :, None]
        ws = jnp.repeat(w[:, None], cfg.num_ws, axis=1)
        return self.superresolution(features[..., :3], features, ws)
