"""Which regulariser of the density field, and how strong."""

import dataclasses
from typing import Literal

Kind = Literal["l1", "monotonic-detach", "monotonic-fixed"]


@dataclasses.dataclass(frozen=True)
class DensityConfig:
    """Which regulariser, and how strong.

    Attributes:
      weight: Multiplies the loss; 0 switches the phase off.
      kind: "l1" smoothness, or one of the monotonic variants followed by smoothness.
      perturbation: Standard deviation of the offset of "l1", world units.
    """

    weight: float = 0.25
    kind: Kind = "l1"
    perturbation: float = 0.004
