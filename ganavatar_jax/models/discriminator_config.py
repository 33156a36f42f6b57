"""Sizes of the discriminator."""

import dataclasses

from ganavatar_jax.models import generator_config


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of the dual discriminator.

    Attributes:
      img_resolution: Side of the images it judges, pixels; a power of two.
      channel_base: Channels times side of a block.
      channel_max: Most channels of a block.
      mapping_layers: Layers of the camera mapping.
      mbstd_group_size: Samples a group in the minibatch standard deviation.
      mbstd_block_size: Consecutive samples that groups stay within (what each of the original's
        eight devices held of 32); 0 is the whole batch, as on one device of the original.
      num_half_res: How many of the largest blocks use half_dtype.
      half_dtype: Low precision, or "float32".
      conv_clamp: Limit of activations, or None.
      label_dim: Length of the camera label.
    """

    img_resolution: int = 512
    channel_base: int = 32768
    channel_max: int = 512
    mapping_layers: int = 8
    mbstd_group_size: int = 4
    mbstd_block_size: int = 4
    num_half_res: int = 4
    half_dtype: generator_config.HalfDtype = "float32"
    conv_clamp: float | None = 256.0
    label_dim: int = 25

    def __post_init__(self) -> None:
        if self.mbstd_group_size < 1 or self.mbstd_block_size < 0:
            raise ValueError(
                "mbstd_group_size must be at least 1 and mbstd_block_size at least 0; got "
                f"{self.mbstd_group_size} and {self.mbstd_block_size}."
            )

    @classmethod
    def tiny(cls) -> "DiscriminatorConfig":
        """Returns a configuration small enough for unit tests."""
        return cls(img_resolution=32, channel_base=256, channel_max=16, mapping_layers=2)
