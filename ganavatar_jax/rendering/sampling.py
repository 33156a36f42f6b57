"""Sample positions along rays: stratified, then by importance.

`t` are distances along unit rays, `jitter` and `u` uniform draws in [0, 1]. Draws are arguments;
without draws the samples are deterministic midpoints.
"""

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float

WEIGHT_FLOOR = 0.01  # added to smoothed weights, so that empty intervals keep being explored
PDF_EPSILON = 1e-5  # keeps the histogram normalisable and the inverse finite


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
    draw = 0.5 if jitter is None else jitter
    fraction = (jnp.arange(count, dtype=jnp.float32) + draw) / (count - 1)
    near, far = t_near[..., None], t_far[..., None]
    if disparity:
        return 1.0 / ((1.0 / near) * (1.0 - fraction) + (1.0 / far) * fraction)
    delta = (far - near) / (count - 1)
    start = jnp.arange(count, dtype=jnp.float32) * delta + near
    return start + draw * delta


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


def _take(values: Array, index: Array) -> Array:
    return jnp.take_along_axis(values, index, axis=-1)


@jax.custom_vjp
def permute(
    values: Float[Array, "*b s"], order: Float[Array, "*b s"], inverse: Float[Array, "*b s"]
) -> Float[Array, "*b s"]:
    """Reorders the last axis by a permutation; its gradient is a gather too, not a scatter.

    Args:
      values: The values.
      order: Integer permutation: result[k] = values[order[k]].
      inverse: The inverse permutation of `order`.

    Returns:
      Reordered values.

    Source: ours.
    """
    del inverse
    return _take(values, order)


def _permute_forward(values: Array, order: Array, inverse: Array) -> tuple[Array, tuple[Array, Array]]:
    return permute(values, order, inverse), (order, inverse)


def _permute_backward(residual: tuple[Array, Array], cotangent: Array) -> tuple[Array, None, None]:
    order, inverse = residual
    return permute(cotangent, inverse, order), None, None


permute.defvjp(_permute_forward, _permute_backward)
