"""Similarities: found from pairs of points, and applied to points and cameras.

A capture lives in its tracker's frame and units; the generator lives in the head frame of its
training data. One similarity carries every camera over. Images and intrinsics stay as they are;
distances along rays grow by the scale. All in float64 on the host: a few hundred points and poses
need no compiler, and trackers count in millimetres.

Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point
patterns"; GAN-Avatar, section on data alignment.
"""

import dataclasses

import numpy as np

from ganavatar_jax.core.arrays import Float


@dataclasses.dataclass(frozen=True)
class Similarity:
    """The map x -> scale * rotation @ x + translation.

    Attributes:
      scale: Positive factor, target units per source unit.
      rotation: Rotation matrix, determinant +1.
      translation: In target units.
    """

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]


def from_points(
    source: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, " n"],
) -> Similarity:
    """Finds the similarity that carries source points onto target points with least squares.

    Args:
      source: Points before the map, not all on one line.
      target: Where each should land.
      weights: Importance of each pair, not negative.

    Returns:
      The similarity that minimizes sum_i weights_i |target_i - (s R source_i + t)|^2; never a
      reflection.

    Source: Umeyama 1991, equations 40 to 43, with weighted means.
    """
    weights = weights / weights.sum()
    source_mean, target_mean = weights @ source, weights @ target
    from_mean, to_mean = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd((weights[:, None] * to_mean).T @ from_mean)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * signs) @ vt
    scale = float(singular @ signs / (weights @ (from_mean**2).sum(axis=1)))
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def move_points(
    points: Float[np.ndarray, "*b 3"], similarity: Similarity
) -> Float[np.ndarray, "*b 3"]:
    """Moves points into the target frame.

    Args:
      points: Points in the source frame.
      similarity: The map.

    Returns:
      Points in the target frame.

    Source: standard.
    """
    return similarity.scale * points @ similarity.rotation.T + similarity.translation


def move_cameras(
    cam2world: Float[np.ndarray, "*b 4 4"], similarity: Similarity
) -> Float[np.ndarray, "*b 4 4"]:
    """Carries cameras into the target frame, so that moved points project where they did.

    Args:
      cam2world: Poses in the source frame.
      similarity: The map.

    Returns:
      Poses with rotation Q R and centre s Q o + t, float64; the scale cancels in the projection.

    Source: standard; CONVENTIONS.md.
    """
    moved = cam2world.astype(np.float64)
    moved[..., :3, :3] = similarity.rotation @ moved[..., :3, :3]
    moved[..., :3, 3] = move_points(moved[..., :3, 3], similarity)
    return moved
