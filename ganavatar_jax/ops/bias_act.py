"""Bias, activation, gain and clamp, in this order. Source: Karras et al. 2020 (StyleGAN2)."""

import math
from typing import Literal

import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float

LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2.0)  # keeps unit variance through the rectifier (He et al. 2015)


def bias_act(
    x: Float[Array, "*b c"],
    bias: Float[Array, " c"] | None = None,
    *,
    activation: Literal["linear", "lrelu"] = "linear",
    gain: float = 1.0,
    clamp: float | None = None,
) -> Float[Array, "*b c"]:
    """Adds a bias per channel, applies the activation and its gain, then clamps.

    Args:
      x: Input, channels last.
      bias: One value a channel, or None.
      activation: "linear" (gain 1) or "lrelu" (slope 0.2, gain sqrt(2)).
      gain: Multiplies the activation's own gain AND the clamp.
      clamp: Result is limited to [-clamp * gain, clamp * gain]; None means no limit.

    Returns:
      Array like x, same dtype.

    Source: EG3D reference behaviour (bias_act).
    """
    if bias is not None:
        x = x + bias.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
    if activation == "lrelu":
        x = jnp.where(x >= 0, x, x * LRELU_SLOPE) * (LRELU_GAIN * gain)
    elif gain != 1.0:
        x = x * gain
    if clamp is not None:
        x = jnp.clip(x, -clamp * gain, clamp * gain)
    return x
