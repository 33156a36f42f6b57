"""What the training phases need to know at compile time."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from ganavatar_jax.losses import density_config
from ganavatar_jax.models import discriminator_config, generator_config
from ganavatar_jax.training import (
    adam_config,
    augment_config,
    gan_config,
    reconstruction_config,
)

Batch = Mapping[str, Any]  # of arrays, whose type would import JAX
Schedule = Mapping[str, Any]
Phase = Literal["recon", "g_main", "g_reg", "d_main", "d_reg"]


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What the phases need to know at compile time.

    Attributes:
      g: Generator.
      d: Discriminator.
      g_adam: Optimiser of G, before lazy rescaling.
      d_adam: Optimiser of D, before lazy rescaling.
      gamma: Weight of R1.
      g_reg_interval: Iterations between density regularisations.
      d_reg_interval: Iterations between R1 steps.
      density: Density regulariser.
      style_mixing_p: Probability that rows of ws come from a second latent.
      augment: Augmentation pipe, or None.
      ada_target: Mean sign of real logits the augmentation is adapted to.
      ada_kimg: Images over which its probability could move by one, thousands.
      freeze_d: How many of D's largest blocks stay as they are.
      microbatch: Samples of a device handled at once; 0 takes all. Gradients are averaged.
      reconstruction: Reconstruction of the training images, or None.
    """

    g: generator_config.GeneratorConfig
    d: discriminator_config.DiscriminatorConfig
    g_adam: adam_config.AdamConfig = adam_config.AdamConfig(lr=0.0025)
    d_adam: adam_config.AdamConfig = adam_config.AdamConfig(lr=0.002)
    gamma: float = 5.0
    g_reg_interval: int = 4
    d_reg_interval: int = 16
    density: density_config.DensityConfig = dataclasses.field(
        default_factory=density_config.DensityConfig
    )
    style_mixing_p: float = 0.0
    augment: augment_config.AugmentConfig | None = None
    ada_target: float = 0.6
    ada_kimg: float = 500.0
    freeze_d: int = 0
    microbatch: int = 0
    reconstruction: reconstruction_config.ReconstructionConfig | None = None

    @property
    def g_adam_lazy(self) -> adam_config.AdamConfig:
        """Optimiser of G; rescaled only if the density regulariser is on."""
        return self.g_adam.for_interval(self.g_reg_interval if self.density.weight else None)

    @property
    def d_adam_lazy(self) -> adam_config.AdamConfig:
        """Optimiser of D; rescaled only if R1 is on."""
        return self.d_adam.for_interval(self.d_reg_interval if self.gamma else None)


def step_config(
    config: gan_config.GanConfig,
    g: generator_config.GeneratorConfig,
    d: discriminator_config.DiscriminatorConfig,
) -> StepConfig:
    """Gathers what the phases need at compile time.

    Args:
      config: Options of the run.
      g: Generator.
      d: Discriminator.

    Returns:
      The step's configuration.

    Source: ours.
    """
    return StepConfig(
        g=g,
        d=d,
        g_adam=adam_config.AdamConfig(config.g_lr, config.beta1, config.beta2),
        d_adam=adam_config.AdamConfig(config.d_lr, config.beta1, config.beta2),
        gamma=config.gamma,
        g_reg_interval=config.g_reg_interval,
        d_reg_interval=config.d_reg_interval,
        density=config.density,
        style_mixing_p=config.style_mixing_p,
        augment=None if config.augment == "none" else config.augment_pipe,
        ada_target=config.ada_target,
        ada_kimg=config.ada_kimg,
        freeze_d=config.freeze_d,
        microbatch=config.microbatch,
        reconstruction=config.reconstruction if config.reconstruct else None,
    )
