"""Rotation matrices, which act on column vectors, from an axis and an angle."""

import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import precision
from ganavatar_jax.core.arrays import Array, Float

AnyArray = Array | np.ndarray


def from_axis_angle(axis_angle: Float[AnyArray, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Turns a rotation vector into a matrix; smooth at zero.

    Args:
      axis_angle: Unit axis times the angle, radians, counter-clockwise seen from the axis' tip.

    Returns:
      Rotation matrix.

    Source: Rodrigues' formula.
    """
    vector = jnp.asarray(axis_angle)
    squared = jnp.sum(vector * vector, axis=-1)[..., None, None]
    tiny = squared < 1e-12
    angle = jnp.sqrt(jnp.where(tiny, 1.0, squared))
    sine_over = jnp.where(tiny, 1.0 - squared / 6.0, jnp.sin(angle) / angle)
    cosine_over = jnp.where(tiny, 0.5, 0.5 * (jnp.sin(0.5 * angle) / (0.5 * angle)) ** 2)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = jnp.zeros_like(x)
    skew = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1)
    skew = skew.reshape(*vector.shape[:-1], 3, 3)
    identity = jnp.broadcast_to(jnp.eye(3, dtype=skew.dtype), skew.shape)
    return identity + sine_over * skew + cosine_over * precision.matmul(skew, skew)
