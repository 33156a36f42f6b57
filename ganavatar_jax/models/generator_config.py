"""Sizes and options of the generator."""

import dataclasses
from typing import Literal

from ganavatar_jax.rendering import render_config

_SIZES = (
    "neural_resolution", "z_dim", "w_dim", "mapping_layers", "plane_channels", "channel_base",
    "channel_max", "decoder_hidden",
)  # fmt: skip


HalfDtype = Literal["float32", "bfloat16", "float16"]


SuperresolutionKind = Literal["none", "2X", "4X", "8X", "8XDC"]


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
    half_dtype: HalfDtype = "float32"
    conv_clamp: float | None = None
    decoder_hidden: int = 64
    decoder_features: int = 32
    decoder_lr_multiplier: float = 1.0
    superresolution: SuperresolutionKind = "8XDC"
    superresolution_channels: tuple[int, ...] = ()
    superresolution_half: bool = True
    superresolution_clamp: float | None = 256.0
    superresolution_antialias: bool = True
    condition_on_camera: bool = False
    condition_scale: float = 1.0
    render: render_config.RenderConfig = dataclasses.field(
        default_factory=render_config.RenderConfig
    )

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
        return 2 * (self.plane_resolution.bit_length() - 2)  # two a block from 4 pixels up

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
            render=render_config.RenderConfig(depth_resolution=4, depth_resolution_importance=4),
        )
