"""Features of world points from three axis-aligned planes, averaged over them."""

import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.ops import grid_sample
from ganavatar_jax.rendering import render_config

# World axes that serve as (u, v) of planes 0, 1, 2. In the original, planes 1 and 2 are transposes
# of each other (quirk Q1); "fixed" is three orthogonal planes.
_UV = {
    "original": ((0, 1), (0, 2), (2, 0)),
    "fixed": ((0, 1), (0, 2), (2, 1)),
}


def project(
    points: Float[Array, "b n 3"], *, axes: render_config.PlaneAxes, box_warp: float
) -> Float[Array, "b p n 2"]:
    """Projects world points onto the three planes.

    Args:
      points: World units; the cube of side box_warp maps to [-1, 1].
      axes: Which world axes each plane spans.
      box_warp: Side of the cube, world units.

    Returns:
      Normalised plane coordinates (u, v), p = 3.

    Source: EG3D (Chan et al. 2022), section 4.1; the two axis sets are quirk Q1.
    """
    scaled = points * (2.0 / box_warp)
    return jnp.stack([scaled[..., jnp.array(uv)] for uv in _UV[axes]], axis=1)


def lookup(
    planes: Float[Array, "b p h w c"],
    points: Float[Array, "b n 3"],
    *,
    axes: render_config.PlaneAxes,
    box_warp: float,
) -> Float[Array, "b n c"]:
    """Averages what the planes hold at the projections of the points.

    Args:
      planes: Feature planes, p = 3.
      points: World units.
      axes: Which world axes each plane spans.
      box_warp: Side of the cube, world units.

    Returns:
      Mean features; a plane counts as zero outside of it.

    Source: EG3D (Chan et al. 2022), section 4.1.
    """
    coordinates = project(points, axes=axes, box_warp=box_warp)
    return grid_sample.sample_planes(planes, coordinates) / planes.shape[1]
