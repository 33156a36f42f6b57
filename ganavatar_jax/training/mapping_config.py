"""How the expression mapping is trained."""

import dataclasses
from typing import Literal

from ganavatar_jax.models import expression_mapping_config


@dataclasses.dataclass(frozen=True)
class MappingConfig:
    """How the mapping network is trained.

    Attributes:
      network: Sizes of the network.
      coefficients: Names of the coefficients that drive the avatar; empty takes those
        of the estimator that ARKit has too, or all where it has none of them.
      normalization: "standardize" or "pca" (whitened); "none" feeds raw codes, as the original.
        Mean and spread of the pairs' codes are stored with all three.
      components: Components kept by "pca"; 0 keeps all.
      invert: Whether the network starts as the inverse of a linear map from w to codes, and sees
        what that map tells of each pair's w in place of the code that was read: the avatar then
        does all of what it is asked, where a network that learns from noisy codes does less.
      center_on_mean: Whether the network's output is added to the mean w of the pairs.
      latent_steps: Steps with the latent loss alone, before the others; cheap, no rendering.
      steps: Steps with the photometric loss.
      batch_size: Pairs a step.
      lr: Learning rate of AdamW in the photometric steps.
      latent_lr: Learning rate of AdamW in the latent steps.
      weight_decay: Decoupled weight decay.
      photometric_weight: Weight of the L1 image loss (0..255 units).
      latent_weight: Weight of the L1 loss on w in the photometric steps.
      code_noise: Standard deviation of noise added to normalised codes (regularises); to raw codes,
        in spreads of the pairs' codes.
      seed: Root of the randomness of this stage.
      validate_every: Steps between evaluations on held-out pairs.
    """

    network: expression_mapping_config.ExpressionMappingConfig = dataclasses.field(
        default_factory=expression_mapping_config.ExpressionMappingConfig
    )
    coefficients: tuple[str, ...] = ()
    normalization: Literal["none", "standardize", "pca"] = "standardize"
    components: int = 0
    invert: bool = False
    center_on_mean: bool = True
    latent_steps: int = 0
    steps: int = 6000
    batch_size: int = 8
    lr: float = 1e-4
    latent_lr: float = 1e-3
    weight_decay: float = 0.0
    photometric_weight: float = 1.0
    latent_weight: float = 0.0
    code_noise: float = 0.0
    seed: int = 0
    validate_every: int = 200

    def __post_init__(self) -> None:
        if self.normalization not in ("none", "standardize", "pca"):
            raise ValueError(
                f"normalization must be none, standardize or pca; got {self.normalization!r}."
            )
        if self.components < 0 or (self.components and self.normalization != "pca"):
            raise ValueError(
                f'components must be 0, or a number with normalization="pca"; got '
                f"{self.components} with {self.normalization!r}."
            )
        if self.batch_size < 1 or self.validate_every < 1:
            raise ValueError("batch_size and validate_every must be at least 1.")
        if min(self.latent_steps, self.steps) < 0 or self.latent_steps + self.steps < 1:
            raise ValueError(
                f"latent_steps and steps must not be negative, and one of them at least 1; got "
                f"{self.latent_steps} and {self.steps}."
            )
        if self.invert and self.network.hidden_layers < 1:
            raise ValueError("invert needs at least one hidden layer; got none.")
        if self.code_noise < 0:
            raise ValueError(f"code_noise must not be negative; got {self.code_noise}.")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative; got {self.seed}.")
