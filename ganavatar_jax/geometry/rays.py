"""Rays through pixel centres. `t` is the Euclidean distance along a unit direction."""

import jax.numpy as jnp

from ganavatar_jax.core import precision
from ganavatar_jax.core.arrays import Array, Float

_NORM_FLOOR = 1e-12  # the reference's lower bound on the norm of a direction


def pixel_rays(
    cam2world: Float[Array, "b 4 4"], intrinsics: Float[Array, "b 3 3"], *, resolution: int
) -> tuple[Float[Array, "b r 3"], Float[Array, "b r 3"]]:
    """Makes one ray through the centre of every pixel, row by row.

    Args:
      cam2world: Camera poses, OpenCV axes (x right, y down, z forward), world units.
      intrinsics: Normalised by image size; skew enters x only.
      resolution: Height and width of the ray grid, pixels.

    Returns:
      origins: Camera centres, repeated for each ray, world units.
      directions: Unit directions; ray index = row * resolution + column.

    Source: EG3D reference behaviour (ray sampler); pixel j has its centre at (j + 0.5) / size.
    """
    centres = (jnp.arange(resolution, dtype=jnp.float32) + 0.5) / resolution
    v, u = (grid.reshape(-1) for grid in jnp.meshgrid(centres, centres, indexing="ij"))
    fx, fy = intrinsics[:, 0, 0, None], intrinsics[:, 1, 1, None]
    cx, cy = intrinsics[:, 0, 2, None], intrinsics[:, 1, 2, None]
    skew = intrinsics[:, 0, 1, None]
    u, v = u[None], v[None]
    x = (u - cx + cy * skew / fy - skew * v / fy) / fx
    y = jnp.broadcast_to((v - cy) / fy, x.shape)
    local = jnp.stack([x, y, jnp.ones_like(x)], axis=-1)
    directions = precision.einsum("bij,brj->bri", cam2world[:, :3, :3], local)
    norm = jnp.sqrt(jnp.sum(jnp.square(directions), axis=-1, keepdims=True))
    directions = directions / jnp.maximum(norm, _NORM_FLOOR)
    origins = jnp.broadcast_to(cam2world[:, None, :3, 3], directions.shape)
    return origins, directions
