"""The generator's configuration and its parameters; `generator` holds the functions of them."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.models import decoder, layers, mapping, synthesis
from ganavatar_jax.models import superresolution as superresolution_lib
from ganavatar_jax.rendering import volume

_SIZES = (
    "neural_resolution", "z_dim", "w_dim", "mapping_layers", "plane_channels", "channel_base",
    "channel_max", "decoder_hidden",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Sizes and options of the generator.

    Attributes:
      img_resolution: Side of the final image, pixels.
      neural_resolution: Side of the rendered image, pixels (a training schedule may override it).
      z_dim: Length of the latent.
      w_dim: Length of the intermediate latent.
      label_dim: Length of the camera label.
      mapping_layers: Fully connected layers of the mapping.
      plane_resolution: Side of the planes, texels.
      plane_channels: Features of one plane.
      channel_base: Channels times side of a synthesis block.
      channel_max: Most channels of a synthesis block.
      num_half_res: How many of the largest synthesis blocks use half_dtype.
      half_dtype: Low precision for the convolutions that may have it, or "float32".
      conv_clamp: Limit of the synthesis activations, or None.
      decoder_hidden: Hidden width of the decoder.
      decoder_features: Colour features of a sample; the first three are the rendered image.
      decoder_lr_multiplier: Run-time scale of the decoder's weights.
      superresolution: Kind, "none" to put out the rendered image.
      superresolution_channels: Channels of its blocks; empty means the kind's own.
      superresolution_half: Whether it uses half_dtype.
      superresolution_clamp: Limit of its activations, or None.
      superresolution_antialias: Whether resizing its input is antialiased.
      condition_on_camera: Whether the mapping sees the camera; GAN-Avatar's does not.
      condition_scale: Multiplies the camera label of the mapping.
      render: Ray sampling.
    """

    img_resolution: int = 512
    neural_resolution: int = 128
    z_dim: int = 512
    w_dim: int = 512
    label_dim: int = 25
    mapping_layers: int = 2
    plane_resolution: int = 256
    plane_channels: int = 32
    channel_base: int = 32768
    channel_max: int = 512
    num_half_res: int = 0
    half_dtype: layers.HalfDtype = "float32"
    conv_clamp: float | None = None
    decoder_hidden: int = 64
    decoder_features: int = 32
    decoder_lr_multiplier: float = 1.0
    superresolution: superresolution_lib.Kind = "8XDC"
    superresolution_channels: tuple[int, ...] = ()
    superresolution_half: bool = True
    superresolution_clamp: float | None = 256.0
    superresolution_antialias: bool = True
    condition_on_camera: bool = False
    condition_scale: float = 1.0
    render: volume.RenderConfig = dataclasses.field(default_factory=volume.RenderConfig)

    def __post_init__(self) -> None:
        for name in ("img_resolution", "plane_resolution"):
            side = getattr(self, name)
            if side < 8 or side & (side - 1):
                raise ValueError(f"{name} must be a power of two and at least 8; got {side}.")
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}.")
        if self.superresolution == "none" and self.neural_resolution != self.img_resolution:
            raise ValueError(
                f"without super-resolution neural_resolution must equal img_resolution; got "
                f"{self.neural_resolution} and {self.img_resolution}."
            )
        if self.superresolution == "4X" and 2 * self.neural_resolution > self.img_resolution:
            raise ValueError(
                f"4X only enlarges: neural_resolution must be at most half of img_resolution; got "
                f"{self.neural_resolution} and {self.img_resolution}."
            )
        if len(self.superresolution_channels) not in (0, 2):
            raise ValueError(
                f"superresolution_channels must be empty or two numbers; got "
                f"{self.superresolution_channels}."
            )
        if self.decoder_features < 3:
            raise ValueError(f"decoder_features must be at least 3; got {self.decoder_features}.")

    @property
    def num_ws(self) -> int:
        """Number of latents the synthesis network takes."""
        return synthesis.count_ws(self.plane_resolution)

    @classmethod
    def tiny(cls) -> "GeneratorConfig":
        """Returns a configuration small enough for unit tests."""
        return cls(
            img_resolution=32,
            neural_resolution=16,
            z_dim=16,
            w_dim=16,
            plane_resolution=16,
            plane_channels=4,
            channel_base=128,
            channel_max=8,
            decoder_hidden=8,
            decoder_features=6,
            superresolution="2X",
            superresolution_channels=(8, 8),
            render=volume.RenderConfig(depth_resolution=4, depth_resolution_importance=4),
        )


class _Backbone(nn.Module):
    config: GeneratorConfig

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

    config: GeneratorConfig

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
