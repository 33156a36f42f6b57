"""Sizes of the expression mapping."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ExpressionMappingConfig:
    """Sizes of the mapping network.

    Attributes:
      width: Units of the hidden layers.
      hidden_layers: Hidden layers.
      activation: "lrelu" (slope 0.2) or "relu".
      output_scale: Factor on the initial weights of the output layer.
    """

    width: int = 64
    hidden_layers: int = 2
    activation: Literal["lrelu", "relu"] = "lrelu"
    output_scale: float = 0.25
