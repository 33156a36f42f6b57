"""Rotations as vectors: axis times angle.

Source: Rodrigues' formula.
"""

import numpy as np

from ganavatar_jax.core.arrays import Float


def exp(vectors: Float[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3 3"]:
    """Turns vectors into rotations.

    Args:
      vectors: Axis times angle, radians.

    Returns:
      Rotation matrices.
    """
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    cross = -cross_slopes(vectors)
    return (
        np.eye(3)
        + np.sinc(angle / np.pi) * cross
        + (0.5 * np.sinc(angle / (2 * np.pi)) ** 2) * (cross @ cross)
    )


def log(rotations: Float[np.ndarray, "f 3 3"]) -> Float[np.ndarray, "f 3"]:
    """Turns rotations of less than 180 degrees into vectors.

    Args:
      rotations: Rotation matrices.

    Returns:
      Axis times angle, radians.
    """
    skew = rotations - np.swapaxes(rotations, 1, 2)
    axis = 0.5 * np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1)
    sine = np.linalg.norm(axis, axis=1)
    cosine = 0.5 * (np.trace(rotations, axis1=1, axis2=2) - 1.0)
    angle = np.arctan2(sine, cosine)
    return axis * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)[:, None]


def mean(
    rotations: Float[np.ndarray, "f 3 3"], weights: Float[np.ndarray, " f"]
) -> Float[np.ndarray, "3 3"]:
    """Finds the rotation nearest to weighted rotations.

    Args:
      rotations: Rotation matrices.
      weights: Not negative, not all 0.

    Returns:
      The chordal mean.
    """
    u, _, vt = np.linalg.svd(np.einsum("f,fij->ij", weights, rotations))
    return (u * [1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))]) @ vt


def angle_deg(
    first: Float[np.ndarray, "f 3 3"], second: Float[np.ndarray, "f 3 3"]
) -> Float[np.ndarray, " f"]:
    """Measures between rotations.

    Args:
      first: Rotation matrices.
      second: Rotation matrices.

    Returns:
      Angles, degrees.
    """
    # From the chord, because the cosine cannot tell small angles apart.
    chord = np.linalg.norm(first - second, axis=(-2, -1))
    return np.degrees(2.0 * np.arcsin(np.clip(chord / np.sqrt(8.0), 0.0, 1.0)))


def cross_slopes(points: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """Differentiates a turn of points.

    Args:
      points: Places.

    Returns:
      Derivatives of exp(w) @ point by w at w = 0.
    """
    x, y, z = np.moveaxis(points, -1, 0)
    zero = np.zeros_like(x)
    rows = [zero, z, -y, -z, zero, x, y, -x, zero]
    return np.stack(rows, axis=-1).reshape(*points.shape, 3)
