"""Equalised fully connected layer.

Weights are stored [in, out] with unit (or 1 / lr_multiplier) variance; the gain that makes the
layer well scaled is applied at run time. Source: Karras et al. 2018, section 4.1 (equalised
learning rate); Karras et al. 2020.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.ops import bias_act as bias_act_lib


def linear(
    x: Float[Array, "*b i"],
    weight: Float[Array, "i o"],
    bias: Float[Array, " o"] | None,
    *,
    lr_multiplier: float = 1.0,
    activation: Literal["linear", "lrelu"] = "linear",
) -> Float[Array, "*b o"]:
    """Computes act(x @ (weight * m / sqrt(in)) + bias * m) * gain.

    Args:
      x: Input features.
      weight: Stored weight, [in, out].
      bias: Stored bias, or None.
      lr_multiplier: m above; scales weight and bias at run time.
      activation: "lrelu" has slope 0.2 and gain sqrt(2); "linear" has gain 1.

    Returns:
      Output features in the dtype of x.

    Source: EG3D reference behaviour (FullyConnectedLayer).
    """
    gain = lr_multiplier / math.sqrt(weight.shape[0])
    y = jnp.matmul(x, weight.astype(x.dtype) * gain)
    scaled = None if bias is None else bias.astype(x.dtype) * lr_multiplier
    return bias_act_lib.bias_act(y, scaled, activation=activation)


def normalize_second_moment(
    x: Float[Array, "*b c"], *, epsilon: float = 1e-8
) -> Float[Array, "*b c"]:
    """Divides by the root mean square over the last axis.

    Args:
      x: Vectors.
      epsilon: Added to the mean square.

    Returns:
      x * rsqrt(mean(x^2) + epsilon).

    Source: Karras et al. 2020; the mean, not the sum, is taken.
    """
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)
