"""Volume compositing by midpoint quadrature, with the activation after averaging densities.

`t` ascending distances, `density` raw (before softplus), `weights` one per interval.
"""

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float

TRANSMITTANCE_EPSILON = 1e-10  # the reference's guard against an exactly opaque interval


def interval_weights(
    density: Float[Array, "*b s"], t: Float[Array, "*b s"]
) -> Float[Array, "*b s1"]:
    """Computes how much each interval between neighbouring samples contributes to its ray.

    Args:
      density: Raw density at the samples.
      t: Ascending distances, world units.

    Returns:
      s - 1 weights, not negative, sum at most one (up to 1e-9).

    Source: Max 1995; EG3D reference behaviour (average first, then softplus(x - 1)).
    """
    deltas = t[..., 1:] - t[..., :-1]
    middle = 0.5 * (density[..., :-1] + density[..., 1:])
    optical = jax.nn.softplus(middle - 1.0) * deltas
    alpha = 1.0 - jnp.exp(-optical)
    through = jnp.cumprod(1.0 - alpha + TRANSMITTANCE_EPSILON, axis=-1)
    before = jnp.concatenate([jnp.ones_like(through[..., :1]), through[..., :-1]], axis=-1)
    return alpha * before


def sample_weights(weights: Float[Array, "*b s1"]) -> Float[Array, "*b s"]:
    """Turns weights of intervals into weights of samples.

    Each interval's colour is the mean of its two samples' colours, so a sample gets half of the
    weight on either side of it; this lets colours stay in any order in memory.

    Args:
      weights: s - 1 interval weights.

    Returns:
      s sample weights with the same sum.

    Source: ours; rearrangement of the midpoint quadrature.
    """
    edge = jnp.zeros_like(weights[..., :1])
    return 0.5 * (
        jnp.concatenate([weights, edge], axis=-1) + jnp.concatenate([edge, weights], axis=-1)
    )


def expected_distance(
    weights: Float[Array, "*b s1"], t: Float[Array, "*b s"]
) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """Averages the interval midpoints by weight.

    Args:
      weights: Interval weights.
      t: Ascending distances, world units.

    Returns:
      distance: Weighted mean distance, +inf where nothing was hit.
      opacity: Sum of the weights.

    Source: EG3D reference behaviour (the caller clamps to the range of all distances, quirk Q4).
    """
    opacity = jnp.sum(weights, axis=-1)
    middle = 0.5 * (t[..., :-1] + t[..., 1:])
    empty = opacity == 0
    total = jnp.sum(weights * middle, axis=-1)
    distance = jnp.where(empty, jnp.inf, total / jnp.where(empty, 1.0, opacity))
    return distance, opacity
