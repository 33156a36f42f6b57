"""How far cameras lie from true ones, up to the similarity that no video can tell.

Source: Umeyama 1991 for scale and shift; the rotation is the mean of all cameras' differences.
"""

import dataclasses

import numpy as np

from ganavatar_jax.core.arrays import Float
from ganavatar_jax.geometry import rotation_vectors


@dataclasses.dataclass(frozen=True)
class PoseErrors:
    """What the best similarity leaves of each camera.

    Attributes:
      rotation_deg: Angle between the camera and the true one.
      shift: Distance between their centres, world units of the truth.
      scale: True world units per unit of the compared cameras.
    """

    rotation_deg: Float[np.ndarray, " f"]
    shift: Float[np.ndarray, " f"]
    scale: float


def compare_poses(
    found: Float[np.ndarray, "f 4 4"], truth: Float[np.ndarray, "f 4 4"]
) -> PoseErrors:
    """Compares cameras with true ones after a similarity.

    Args:
      found: cam2world in any world, not all in one place.
      truth: cam2world of the same frames.

    Returns:
      Errors of each frame.

    Source: module text.
    """
    turns = truth[:, :3, :3] @ np.swapaxes(found[:, :3, :3], 1, 2)
    rotation = rotation_vectors.mean(turns, np.ones(len(turns)))
    angle_deg = rotation_vectors.angle_deg(rotation @ found[:, :3, :3], truth[:, :3, :3])
    source, target = found[:, :3, 3] @ rotation.T, truth[:, :3, 3]
    source, target = source - source.mean(axis=0), target - target.mean(axis=0)
    scale = float((source * target).sum() / (source**2).sum())
    shift = np.linalg.norm(scale * source - target, axis=1)
    return PoseErrors(angle_deg, shift, scale)
