"""What one training run's phases share, and which of it fits together."""

import dataclasses
from typing import Literal

from ganavatar_jax.core import errors
from ganavatar_jax.models import discriminator_config, generator_config
from ganavatar_jax.training import backends, gan_config

Phase = Literal["recon", "unseen", "g_main", "g_reg", "d_main", "d_reg"]


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """The options of the training and the sizes of what it trains.

    Attributes:
      gan: Training.
      g: Generator.
      d: Discriminator.
    """

    gan: gan_config.GanConfig
    g: generator_config.GeneratorConfig
    d: discriminator_config.DiscriminatorConfig

    def __post_init__(self) -> None:
        block, batch = self.d.mbstd_block_size, self.gan.batch_size
        if self._has_critic and block and batch % block:
            raise ValueError(
                "gan.batch_size must be a multiple of discriminator.mbstd_block_size, within which "
                f"samples are compared; got {batch} and {block}."
            )
        # With blocks of 0 it depends on the devices whether the batch is cut at all.
        size = self.gan.microbatch
        if self._has_critic and block and 0 < size < batch and size % block:
            raise ValueError(
                "gan.microbatch must be a multiple of discriminator.mbstd_block_size, within which "
                f"samples are compared; got {size} and {block}. Set gan.microbatch={block}."
            )

    @property
    def _has_critic(self) -> bool:
        """Whether any iteration shows images to the discriminator."""
        gan = self.gan
        return not (gan.reconstruct and gan.reconstruction.is_alone(gan.iterations - 1))

    def check_devices(self, devices: int, backend: backends.Backend) -> None:
        """Insists that the batch can be shared out without changing what is computed.

        Args:
          devices: All devices of the run, over all processes.
          backend: How they share the work.

        Raises:
          ConfigError: sizes of batch, microbatch and blocks do not fit the devices.
        """
        batch, size, block = self.gan.batch_size, self.gan.microbatch, self.d.mbstd_block_size
        if batch % devices:
            raise errors.ConfigError(
                f"gan.batch_size must be a multiple of the {devices} devices; got {batch}. Change "
                "it, or use fewer devices."
            )
        share = batch // devices
        cut = 0 < size < share
        if cut and share % size:
            raise errors.ConfigError(
                f"gan.microbatch must divide the {share} samples that each of {devices} devices "
                f"holds of a batch of {batch}; got {size}."
            )
        if self._has_critic and block and share % block:
            raise errors.ConfigError(
                f"discriminator.mbstd_block_size must divide the {share} samples that each of "
                f"{devices} devices holds of a batch of {batch}; got {block}. Use fewer devices, a "
                "larger gan.batch_size or smaller blocks."
            )
        parts = backend != "jit" and devices > 1
        if self._has_critic and not block and (cut or parts):
            cause = f"gan.microbatch={size}" if cut else f"parallel={backend} on {devices} devices"
            raise errors.ConfigError(
                "discriminator.mbstd_block_size=0 compares samples of the whole batch, which "
                f"{cause} cuts up. Set it to a number that divides {size if cut else share}."
            )
        options = self.gan.reconstruction
        together = devices * (size if cut else share)
        if self.gan.reconstruct and options.uniformity_weight and together < 2:
            raise errors.ConfigError(
                "gan.reconstruction.uniformity_weight compares latents of one step: expected two "
                "samples or more; got 1. Set gan.microbatch=2 or more, or the weight to 0."
            )
