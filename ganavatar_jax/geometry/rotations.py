"""Rotation matrices: built from an axis and an angle, and blended along the shortest arc.

Matrices act on column vectors. Quaternions are [w, x, y, z], unit length, and only a means to
interpolate; q and -q are the same rotation.
"""

import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import precision
from ganavatar_jax.core.arrays import Array, Float

AnyArray = Array | np.ndarray

# Below this sine of the half angle slerp and lerp agree to float32 precision.
_SMALL_SINE = 1e-4


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


def to_quaternion(rotation: Float[AnyArray, "*b 3 3"]) -> Float[Array, "*b 4"]:
    """Turns a rotation matrix into a unit quaternion, accurately at every angle.

    Args:
      rotation: Rotation matrix.

    Returns:
      [w, x, y, z] with arbitrary overall sign.

    Source: Shepperd 1978: of four equivalent formulas, the one that divides by the largest
      component.
    """
    m = jnp.asarray(rotation)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = (m[..., i, j] - m[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0)))
    xy, xz, yz = (m[..., i, j] + m[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
    # Row i is 4 q_i q: the outer product of the quaternion with itself.
    outer = jnp.stack(
        [
            jnp.stack([1.0 + xx + yy + zz, wx, wy, wz], axis=-1),
            jnp.stack([wx, 1.0 + xx - yy - zz, xy, xz], axis=-1),
            jnp.stack([wy, xy, 1.0 - xx + yy - zz, yz], axis=-1),
            jnp.stack([wz, xz, yz, 1.0 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    largest = jnp.argmax(jnp.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    row = jnp.take_along_axis(outer, largest[..., None, None], axis=-2)[..., 0, :]
    return row / jnp.linalg.norm(row, axis=-1, keepdims=True)


def from_quaternion(quaternion: Float[AnyArray, "*b 4"]) -> Float[Array, "*b 3 3"]:
    """Turns a unit quaternion into a rotation matrix.

    Args:
      quaternion: [w, x, y, z], unit length.

    Returns:
      Rotation matrix.

    Source: standard.
    """
    q = jnp.asarray(quaternion)
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    rows = [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def slerp(
    start: Float[AnyArray, "*b 3 3"],
    end: Float[AnyArray, "*b 3 3"],
    fraction: Float[AnyArray, "*b"],
) -> Float[Array, "*b 3 3"]:
    """Blends two rotations at constant angular speed along the shorter arc.

    Args:
      start: Rotation at fraction 0.
      end: Rotation at fraction 1.
      fraction: Position between them, 0..1.

    Returns:
      The rotation at that fraction. For a half turn the axis is arbitrary but well defined.

    Source: Shoemake 1985, spherical linear interpolation.
    """
    q_start, q_end = to_quaternion(start), to_quaternion(end)
    fraction = jnp.asarray(fraction)[..., None]
    cosine = jnp.sum(q_start * q_end, axis=-1, keepdims=True)
    q_end = jnp.where(cosine < 0.0, -q_end, q_end)
    cosine = jnp.clip(jnp.abs(cosine), 0.0, 1.0)
    # The sine from the difference, since sqrt(1 - cosine^2) cancels for nearby rotations.
    chord = jnp.linalg.norm(q_end - cosine * q_start, axis=-1, keepdims=True)
    angle = jnp.arctan2(chord, cosine)
    close = chord < _SMALL_SINE
    sine = jnp.where(close, 1.0, chord)
    blended = jnp.where(
        close,
        (1.0 - fraction) * q_start + fraction * q_end,
        (jnp.sin((1.0 - fraction) * angle) * q_start + jnp.sin(fraction * angle) * q_end) / sine,
    )
    return from_quaternion(blended / jnp.linalg.norm(blended, axis=-1, keepdims=True))
