"""Sample positions along rays: stratified, then by importance.

`t` are distances along unit rays, `jitter` and `u` uniform draws in [0, 1]. Draws are arguments;
without draws the samples are deterministic midpoints.
"""

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float, Int

WEIGHT_FLOOR = 0.01  # added to smoothed weights, so that empty intervals keep being explored
PDF_EPSILON = 1e-5  # keeps the histogram normalisable and the inverse finite
# Most samples a ray for which tables of comparisons (s x s a ray) replace sorts and gathers.
_TABLE_LIMIT = 64


def stratified(
    t_near: Float[Array, "*b r"],
    t_far: Float[Array, "*b r"],
    jitter: Float[Array, "*b r s"] | None,
    *,
    count: int,
    disparity: bool = False,
) -> Float[Array, "*b r s"]:
    """Places one sample in each interval that starts at one of `count` even steps.

    Args:
      t_near: First bound, world units.
      t_far: Last bound; the last sample may pass it by one step (quirk Q7).
      jitter: Position within each interval, [0, 1]; None puts samples in the middle.
      count: Samples a ray.
      disparity: Whether steps are even in 1 / t.

    Returns:
      Ascending distances.

    Source: EG3D reference behaviour (stratified sampling).
    """
    near, far = t_near[..., None], t_far[..., None]
    draw = 0.5 if jitter is None else jitter
    steps = jnp.arange(count, dtype=jnp.float32).reshape((1,) * t_near.ndim + (count,))
    fraction = (steps + draw) / (count - 1)
    if disparity:
        return 1.0 / ((1.0 / near) * (1.0 - fraction) + (1.0 / far) * fraction)
    delta = (far - near) / (count - 1)
    return steps * delta + near + draw * delta


def smooth_weights(weights: Float[Array, "*b s"]) -> Float[Array, "*b s"]:
    """Widens a histogram by max-pooling then averaging neighbours, and lifts it off zero.

    Args:
      weights: Compositing weights of the intervals.

    Returns:
      Smoothed weights plus 0.01, same length.

    Source: Barron et al. 2021 (Mip-NeRF), equation 18; EG3D reference behaviour.
    """
    edge = jnp.full_like(weights[..., :1], -jnp.inf)
    padded = jnp.concatenate([edge, weights, edge], axis=-1)
    peak = jnp.maximum(padded[..., :-1], padded[..., 1:])
    return 0.5 * (peak[..., :-1] + peak[..., 1:]) + WEIGHT_FLOOR


def importance(
    t: Float[Array, "*b s"],
    weights: Float[Array, "*b s1"],
    u: Float[Array, "*b n"] | None,
    *,
    count: int,
) -> Float[Array, "*b n"]:
    """Draws distances where the coarse weights are, by inverting their distribution.

    Args:
      t: Ascending coarse distances.
      weights: Their s - 1 compositing weights.
      u: Uniform draws; None takes the midpoints (k + 0.5) / n.
      count: Samples a ray, n.

    Returns:
      Distances without gradient, not sorted. The pdf of interval j + 1 is spread over bin j: the
      last bin is never reached (kept from the reference).

    Source: Mildenhall et al. 2020 (NeRF), section 5.2; EG3D reference behaviour.
    """
    t, weights = jax.lax.stop_gradient((t, weights))
    bins = 0.5 * (t[..., :-1] + t[..., 1:])
    pdf = smooth_weights(weights)[..., 1:-1] + PDF_EPSILON
    pdf = pdf / jnp.sum(pdf, axis=-1, keepdims=True)
    cdf = jnp.cumsum(pdf, axis=-1)
    cdf = jnp.concatenate([jnp.zeros_like(cdf[..., :1]), cdf], axis=-1)
    if u is None:
        u = (jnp.arange(count, dtype=jnp.float32) + 0.5) / count
        u = jnp.broadcast_to(u, (*t.shape[:-1], count))
    last = cdf.shape[-1] - 1
    # A comparison table beats a binary search for the few dozen bins a ray has.
    above = jnp.sum(cdf[..., None, :] <= u[..., :, None], axis=-1)
    low, high = jnp.maximum(above - 1, 0), jnp.minimum(above, last)
    cdf_low, cdf_high = _take(cdf, low), _take(cdf, high)
    bin_low, bin_high = _take(bins, low), _take(bins, high)
    width = cdf_high - cdf_low
    width = jnp.where(width < PDF_EPSILON, 1.0, width)
    samples = bin_low + (u - cdf_low) / width * (bin_high - bin_low)
    return jax.lax.stop_gradient(samples)


def ranks(t: Float[Array, "*b s"]) -> Int[Array, "*b s"]:
    """Finds the place of every sample in the ascending order of its ray.

    Args:
      t: Distances in any order.

    Returns:
      ranks[i] = number of samples before sample i; equal distances keep their order.

    Source: ours. Counting by comparison beats sorting for the few dozen samples a ray has.
    """
    count = t.shape[-1]
    if count > _TABLE_LIMIT:
        return jnp.argsort(jnp.argsort(t, axis=-1), axis=-1)
    earlier = jnp.tril(jnp.ones((count, count), bool), -1).reshape(
        (1,) * (t.ndim - 1) + (count, count)
    )
    mine, other = t[..., :, None], t[..., None, :]
    before = (other < mine) | ((other == mine) & earlier)
    return jnp.sum(before, axis=-1, dtype=jnp.int32)


@jax.custom_vjp
def to_order(values: Float[Array, "*b s"], rank: Int[Array, "*b s"]) -> Float[Array, "*b s"]:
    """Moves every value to its rank; the gradient moves back, without a scatter.

    Args:
      values: Values in any order.
      rank: Their places, a permutation along the last axis.

    Returns:
      result[rank[i]] = values[i].
    """
    count = values.shape[-1]
    if count > _TABLE_LIMIT:
        return jnp.take_along_axis(values, jnp.argsort(rank, axis=-1), axis=-1)
    places = jnp.arange(count).reshape((1,) * (values.ndim - 1) + (count, 1))
    return jnp.sum(jnp.where(rank[..., None, :] == places, values[..., None, :], 0.0), axis=-1)


@jax.custom_vjp
def from_order(values: Float[Array, "*b s"], rank: Int[Array, "*b s"]) -> Float[Array, "*b s"]:
    """Moves values from their ranks back to where they were; the inverse of `to_order`.

    Args:
      values: Values in ascending order of distance.
      rank: A permutation along the last axis.

    Returns:
      result[i] = values[rank[i]].
    """
    return _take(values, rank)


def _to_order_forward(values: Array, rank: Array) -> tuple[Array, Array]:
    return to_order(values, rank), rank


def _from_order_forward(values: Array, rank: Array) -> tuple[Array, Array]:
    return from_order(values, rank), rank


to_order.defvjp(_to_order_forward, lambda rank, cotangent: (from_order(cotangent, rank), None))
from_order.defvjp(_from_order_forward, lambda rank, cotangent: (to_order(cotangent, rank), None))


def _take(values: Array, index: Array) -> Array:
    # Selecting from a table of comparisons is faster than gathering single numbers.
    count = values.shape[-1]
    if count > _TABLE_LIMIT:
        return jnp.take_along_axis(values, index, axis=-1)
    places = jnp.arange(count).reshape((1,) * (values.ndim - 1) + (1, count))
    return jnp.sum(jnp.where(index[..., None] == places, values[..., None, :], 0.0), axis=-1)
