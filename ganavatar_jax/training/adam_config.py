"""Hyperparameters of one network's optimiser."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class AdamConfig:
    """Hyperparameters of one network's optimiser.

    Attributes:
      lr: Learning rate before the rescaling.
      beta1: Decay of the first moment, before the rescaling.
      beta2: Decay of the second moment, before the rescaling.
      epsilon: Added to the root of the second moment.
    """

    lr: float
    beta1: float = 0.0
    beta2: float = 0.99
    epsilon: float = 1e-8

    def for_interval(self, interval: int | None) -> "AdamConfig":
        """Rescales for a lazy regularisation that adds a step every `interval` iterations.

        Args:
          interval: Iterations between regularisation steps; None means there are none.

        Returns:
          lr * r and betas ** r with r = interval / (interval + 1).

        Source: Karras et al. 2020, appendix B (lazy regularisation).
        """
        if interval is None:
            return self
        ratio = interval / (interval + 1)
        return dataclasses.replace(
            self, lr=self.lr * ratio, beta1=self.beta1**ratio, beta2=self.beta2**ratio
        )
