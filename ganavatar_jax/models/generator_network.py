"""The generator's configuration and its parameters; `generator` holds the functions of them."""

import flax.linen as nn
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.models import decoder, generator_config, mapping, synthesis
from ganavatar_jax.models import superresolution as superresolution_lib


class _Backbone(nn.Module):
    config: generator_config.GeneratorConfig

    def setup(self) -> None:
        cfg = self.config
        self.mapping = mapping.Mapping(
            cfg.w_dim, cfg.mapping_layers, has_latent=True, has_average=True
        )
        self.synthesis = synthesis.Synthesis(
            cfg.plane_resolution,
            3 * cfg.plane_channels,
            cfg.channel_base,
            cfg.channel_max,
            num_half_res=cfg.num_half_res,
            half_dtype=cfg.half_dtype,
            clamp=cfg.conv_clamp,
        )


class Generator(nn.Module):
    """The generator's parameters; its methods are the stages.

    Attributes:
      config: Sizes and options.

    Source: EG3D (Chan et al. 2022); GAN-Avatar (Kabadayi et al. 2024) for the options.
    """

    config: generator_config.GeneratorConfig

    def setup(self) -> None:
        """Declares the submodules under the original's names."""
        cfg = self.config
        self.backbone = _Backbone(cfg)
        self.decoder = decoder.Decoder(
            cfg.decoder_hidden, cfg.decoder_features, cfg.decoder_lr_multiplier
        )
        if cfg.superresolution != "none":
            self.superresolution = superresolution_lib.SuperResolution(
                cfg.superresolution,
                cfg.img_resolution,
                cfg.superresolution_channels,
                antialias=cfg.superresolution_antialias,
                clamp=cfg.superresolution_clamp,
                dtype=cfg.half_dtype if cfg.superresolution_half else "float32",
            )

    def map(self, z: Float[Array, "b z"], label25: Float[Array, "b 25"]) -> Float[Array, "b d"]:
        """Maps latent and conditioning label to w.

        Args:
          z: Standard normal latents.
          label25: Conditioning cameras; ignored unless config.condition_on_camera.

        Returns:
          One w a sample.
        """
        cfg = self.config
        # Zeros rather than a scale of zero, which would let a NaN of a camera through.
        if cfg.condition_on_camera:
            return self.backbone.mapping(z, label25 * cfg.condition_scale)
        return self.backbone.mapping(z, jnp.zeros_like(label25))

    def planes(
        self, ws: Float[Array, "b l d"], noise: synthesis.Noise
    ) -> Float[Array, "b p h w c"]:
        """Synthesises the three feature planes.

        Args:
          ws: One latent per layer.
          noise: Drawn maps, "const" (stored maps) or "none".

        Returns:
          Three planes a sample.
        """
        flat = self.backbone.synthesis(ws, noise)
        batch, side = flat.shape[:2]
        split = flat.reshape(batch, side, side, 3, self.config.plane_channels)
        return jnp.moveaxis(split, 3, 1)

    def decode(
        self, plane_features: Float[Array, "b p n c"]
    ) -> tuple[Float[Array, "b n k"], Float[Array, "b n"]]:
        """Decodes plane features of points to (colour features, raw density)."""
        return self.decoder(plane_features)

    def enlarge(
        self,
        rgb: Float[Array, "b h w 3"],
        features: Float[Array, "b h w c"],
        ws: Float[Array, "b l d"],
    ) -> Float[Array, "b h2 w2 3"]:
        """Applies the super-resolution.

        Args:
          rgb: Rendered image.
          features: Rendered features; the first three are rgb.
          ws: One latent per layer of the synthesis.

        Returns:
          The final image; rgb where there is no super-resolution.
        """
        if self.config.superresolution == "none":
            return rgb
        return self.superresolution(rgb, features, ws)

    def __call__(self, z: Array, label25: Array) -> Array:
        """Runs every submodule once on tiny inputs, to create the variables."""
        cfg = self.config
        w = self.map(z, label25)
        ws = jnp.repeat(w[:, None], cfg.num_ws, axis=1)
        plane_features = self.planes(ws, "const")[:, :, :1, 0]
        colors, _ = self.decode(plane_features)
        side = 8
        features = jnp.zeros((z.shape[0], side, side, cfg.decoder_features)) + colors[:, :, None]
        return self.enlarge(features[..., :3], features, ws)
