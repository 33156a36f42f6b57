"""Regularisers of the density field; `density_fn` maps points [b n 3] to raw density [b n]."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ganavatar_jax.core import rng, trees
from ganavatar_jax.core.arrays import Array, Float, Int, PRNGKeyArray
from ganavatar_jax.losses import density_config

DensityFn = Callable[[Array], Array]

POINTS_L1 = 1000  # points a sample of the smoothness term (EG3D)
POINTS_MONOTONIC = 2000  # points a sample of the monotonicity term (EG3D)
MONOTONIC_WEIGHT = 10.0  # of the monotonicity term before density_reg (EG3D)
STEPS_ACROSS = 256  # the monotonicity step and its noise are box_warp / 256 (EG3D)


@trees.pytree_dataclass
class DensityDraws:
    """Random points of one evaluation, world units.

    Attributes:
      points: Points of the smoothness term, uniform in [-1, 1]^3 whatever the box is (quirk Q8).
      offsets: Their standard normal perturbations, before scaling.
      front: Points of the monotonicity term, or None.
    """

    points: Float[Array, "b n 3"]
    offsets: Float[Array, "b n 3"]
    front: Float[Array, "b m 3"] | None


def make_draws(
    key: PRNGKeyArray, ids: Int[Array, " b"], config: density_config.DensityConfig
) -> DensityDraws:
    """Draws the points of one evaluation, per sample.

    Args:
      key: Random key.
      ids: Global sample ids.
      config: Which regulariser.

    Returns:
      The draws.

    Source: EG3D reference behaviour (phase Greg).
    """

    def uniform(name: str, count: int) -> Array:
        keys = rng.per_sample(rng.stream(key, name), ids)
        return jax.vmap(lambda k: jax.random.uniform(k, (count, 3), minval=-1.0, maxval=1.0))(keys)

    keys = rng.per_sample(rng.stream(key, "offsets"), ids)
    offsets = jax.vmap(lambda k: jax.random.normal(k, (POINTS_L1, 3)))(keys)
    front = None if config.kind == "l1" else uniform("front", POINTS_MONOTONIC)
    return DensityDraws(points=uniform("points", POINTS_L1), offsets=offsets, front=front)


def density_loss(
    density_fn: DensityFn,
    draws: DensityDraws,
    config: density_config.DensityConfig,
    *,
    box_warp: float,
) -> Float[Array, ""]:
    """Computes the density regulariser, weight included.

    Args:
      density_fn: Raw density of points.
      draws: Points.
      config: Which regulariser, and how strong.
      box_warp: Side of the volume's cube, world units; sets the step of the monotonic variants.

    Returns:
      weight * mean |density(p) - density(p + offset)|, plus the monotonicity term if chosen.

    Source: EG3D reference behaviour (phase Greg); the offset is 0.004 for "l1" and box_warp / 256
    for the monotonic variants.
    """
    if config.kind == "l1":
        return config.weight * _smoothness(density_fn, draws, config.perturbation)
    step = box_warp / STEPS_ACROSS
    assert draws.front is not None  # make_draws gives it for every monotonic kind
    behind = draws.front + jnp.array([[[0.0, 0.0, -step]]])
    count = draws.front.shape[1]
    both = density_fn(jnp.concatenate([draws.front, behind], axis=1))
    front_density, behind_density = both[:, :count], both[:, count:]
    if config.kind == "monotonic-detach":
        front_density = jax.lax.stop_gradient(front_density)
    monotonic = jnp.mean(jax.nn.relu(front_density - behind_density)) * MONOTONIC_WEIGHT
    return config.weight * (monotonic + _smoothness(density_fn, draws, step))


def _smoothness(density_fn: DensityFn, draws: DensityDraws, scale: float) -> Array:
    count = draws.points.shape[1]
    moved = draws.points + draws.offsets * scale
    both = density_fn(jnp.concatenate([draws.points, moved], axis=1))
    return jnp.mean(jnp.abs(both[:, :count] - both[:, count:]))
