"""Where rays meet the cube that holds the volume."""

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Bool, Float


def intersect_cube(
    origins: Float[Array, "*b r 3"], directions: Float[Array, "*b r 3"], *, side: float
) -> tuple[Float[Array, "*b r"], Float[Array, "*b r"], Bool[Array, "*b r"]]:
    """Finds where rays enter and leave the axis-aligned cube centred at the origin.

    Args:
      origins: Ray starts, world units.
      directions: Unit ray directions.
      side: Edge length of the cube, world units (EG3D calls it box_warp).

    Returns:
      t_near: Distance to entry; negative when the origin is inside; -1 for a miss.
      t_far: Distance to exit; -2 for a miss.
      hit: Whether the ray's line meets the cube.

    Source: Kay and Kajiya 1986, slab method; miss values are the reference's.
    """
    half = side / 2
    inverse = 1.0 / directions
    first, second = (-half - origins) * inverse, (half - origins) * inverse
    near, far = jnp.minimum(first, second), jnp.maximum(first, second)
    t_near, t_far = jnp.max(near, axis=-1), jnp.min(far, axis=-1)
    hit = t_near <= t_far
    return jnp.where(hit, t_near, -1.0), jnp.where(hit, t_far, -2.0), hit


def ray_bounds(
    origins: Float[Array, "*b r 3"],
    directions: Float[Array, "*b r 3"],
    *,
    side: float,
    axis: str | None = None,
) -> tuple[Float[Array, "*b r"], Float[Array, "*b r"]]:
    """Bounds the samples of each ray by the cube; rays that miss borrow bounds from the others.

    Args:
      origins: Ray starts, world units.
      directions: Unit ray directions.
      side: Edge length of the cube, world units.
      axis: Device axis over which rays are spread, or None: "all rays" are those of all devices.

    Returns:
      t_near, t_far: Bounds without gradient. A miss gets the smallest and the LARGEST t_near of
      all rays that hit (quirk Q3); if none hits, (-1, -2).

    Source: EG3D reference behaviour ("auto" ray limits).
    """
    origins, directions = jax.lax.stop_gradient((origins, directions))
    t_near, t_far, hit = intersect_cube(origins, directions, side=side)
    hit = hit & (t_far > t_near)
    lowest = jnp.min(jnp.where(hit, t_near, jnp.inf))
    highest = jnp.max(jnp.where(hit, t_near, -jnp.inf))
    if axis is not None:
        lowest, highest = jax.lax.pmin(lowest, axis), jax.lax.pmax(highest, axis)
    any_hit = lowest < jnp.inf
    start = jnp.where(hit | ~any_hit, t_near, lowest)
    end = jnp.where(hit | ~any_hit, t_far, highest)
    return start, end
