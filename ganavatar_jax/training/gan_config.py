"""Options of a GAN training run, and what the steps and schedules need from them."""

import dataclasses
from typing import Literal

from ganavatar_jax.losses import density_config
from ganavatar_jax.training import (
    adam_config,
    augment_config,
    reconstruction_config,
)

_POSITIVE = (
    "batch_size", "total_kimg", "snapshot_kimg", "sample_kimg", "log_iterations",
    "g_reg_interval", "d_reg_interval", "ada_interval",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class GanConfig:
    """How the GAN is trained.

    Attributes:
      init: Where the networks start: "" from scratch, the name of weights that ship with the
        package, or a folder with generator.safetensors and, if there are any,
        discriminator.safetensors and encoder.safetensors.
      seed: Root of all randomness of the run.
      batch_size: Images an iteration, over all devices and processes.
      total_kimg: Length of the run, thousands of images shown to D.
      g_lr: Learning rate of G before lazy rescaling.
      d_lr: Learning rate of D before lazy rescaling.
      beta1: First-moment decay of both optimisers, before lazy rescaling.
      beta2: Second-moment decay of both optimisers, before lazy rescaling.
      lr_warmup_kimg: Images over which both learning rates rise from zero, thousands.
      gamma: Weight of R1; 0 switches it off.
      g_reg_interval: Iterations between density regularisations.
      d_reg_interval: Iterations between R1 steps.
      density: Density regulariser.
      ema_kimg: Half-life of G's average, thousands of images.
      ema_rampup: Fraction of the images so far that limits the half-life; None means no limit.
      style_mixing_p: Probability of style mixing.
      swapping_p: Probability that G is conditioned on another camera, if it is conditioned at all.
      swapping_fade_kimg: Images over which that probability falls from 1, thousands.
      blur_init_sigma: Width of the fading blur in front of D, pixels; 0 switches it off.
      blur_fade_kimg: Images over which the blur vanishes, thousands.
      neural_resolution_initial: Rendered side at the start, pixels; 0 takes the generator's.
      neural_resolution_fade_kimg: Images over which it reaches the generator's, thousands; in at
        most eight sizes, because each is a program to compile.
      augment: "none", "ada" (adaptive) or "fixed" augmentation in front of D.
      augment_p: Probability of "fixed", and where "ada" starts.
      augment_pipe: Which operations, as factors on the probability.
      ada_target: Mean sign of real logits that "ada" aims at.
      ada_kimg: Images over which its probability could move by one, thousands.
      ada_interval: Iterations between adaptations.
      freeze_d: How many of D's largest blocks stay as they start.
      microbatch: Samples that one device handles at once, whatever the way to share the work; 0
        takes as many as memory_gib allows. Gradients are averaged. It must divide what a device
        holds, and be a multiple of the discriminator's mbstd_block_size.
      memory_gib: What a step may keep for its backward pass on one device, GiB, by a count at the
        start; decides how many samples are handled at once where microbatch is 0. The device needs
        up to twice as much. 0 sets no bound.
      skip_nonfinite: How many steps whose loss or gradient holds NaN or infinity are passed over
        and counted before the training stops; 0 stops at the first. Nothing of them is kept.
      reconstruct: Whether training images are also reconstructed through an encoder (not in the
        original; for runs without a pretrained start).
      reconstruction: How; its warm-up is counted in iterations.
      snapshot_kimg: Images between checkpoints, thousands.
      sample_kimg: Images between sample pictures, thousands.
      log_iterations: Iterations between lines in metrics.jsonl.
      profile_iterations: Iterations, from the second on, whose trace is written into the run
        folder's tensorboard/gan, for TensorBoard or Perfetto; 0 writes none.
    """

    init: str = ""
    seed: int = 0
    batch_size: int = 32
    total_kimg: float = 80.0
    g_lr: float = 0.0025
    d_lr: float = 0.002
    beta1: float = 0.0
    beta2: float = 0.99
    lr_warmup_kimg: float = 0.0
    gamma: float = 5.0
    g_reg_interval: int = 4
    d_reg_interval: int = 16
    density: density_config.DensityConfig = dataclasses.field(
        default_factory=density_config.DensityConfig
    )
    ema_kimg: float = 10.0
    ema_rampup: float | None = None
    style_mixing_p: float = 0.0
    swapping_p: float = 0.5
    swapping_fade_kimg: float = 0.0
    blur_init_sigma: float = 0.0
    blur_fade_kimg: float = 200.0
    neural_resolution_initial: int = 0
    neural_resolution_fade_kimg: float = 1000.0
    augment: Literal["none", "ada", "fixed"] = "none"
    augment_p: float = 0.0
    augment_pipe: augment_config.AugmentConfig = dataclasses.field(
        default_factory=augment_config.AugmentConfig
    )
    ada_target: float = 0.6
    ada_kimg: float = 500.0
    ada_interval: int = 4
    freeze_d: int = 0
    microbatch: int = 0
    memory_gib: float = 40.0
    skip_nonfinite: int = 0
    reconstruct: bool = False
    reconstruction: reconstruction_config.ReconstructionConfig = dataclasses.field(
        default_factory=reconstruction_config.ReconstructionConfig
    )
    snapshot_kimg: float = 40.0
    sample_kimg: float = 20.0
    log_iterations: int = 10
    profile_iterations: int = 0

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}.")
        for name in ("seed", "microbatch", "memory_gib", "skip_nonfinite", "profile_iterations"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}.")
        if not 0.0 <= self.augment_p <= 1.0:
            raise ValueError(f"augment_p must lie in 0..1; got {self.augment_p}.")

    @property
    def iterations(self) -> int:
        """Iterations of the whole run."""
        return -(-round(self.total_kimg * 1000) // self.batch_size)

    @property
    def g_adam(self) -> adam_config.AdamConfig:
        """Optimiser of G; rescaled if the density regulariser is on."""
        adam = adam_config.AdamConfig(self.g_lr, self.beta1, self.beta2)
        return adam.for_interval(self.g_reg_interval if self.density.weight else None)

    @property
    def d_adam(self) -> adam_config.AdamConfig:
        """Optimiser of D; rescaled if R1 is on."""
        adam = adam_config.AdamConfig(self.d_lr, self.beta1, self.beta2)
        return adam.for_interval(self.d_reg_interval if self.gamma else None)
