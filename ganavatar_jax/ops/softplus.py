"""The logarithm of 1 + exp(x), as a series that vectorises; exact to a rounding of float32."""

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float

# log(1 + u) is 2 artanh(s) with s = u / (2 + u), at most a third where u = exp(-|x|): the terms
# that are left out add up to 1.3e-8 of the sum, a tenth of float32's step.
_TERMS = 7


@jax.custom_jvp
def softplus(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Computes log(1 + exp(x)).

    Several times as fast on CPUs as the library's logarithm of sums, and as exact in float32,
    relative to the result, however small that is.

    Args:
      x: Any numbers, in float32 or fewer bits.

    Returns:
      Positive numbers.
    """
    u = jnp.exp(-jnp.abs(x))
    s = u / (2.0 + u)
    square = s * s
    series = jnp.full_like(s, 1.0 / (2 * _TERMS - 1))
    for power in range(2 * _TERMS - 3, 0, -2):
        series = series * square + 1.0 / power
    return jnp.maximum(x, 0.0) + 2.0 * s * series


softplus.defjvps(lambda tangent, result, x: tangent * jax.nn.sigmoid(x))
