"""How far cameras lie from true ones, up to the similarity that no video can tell.

Source: Umeyama 1991 for scale and shift; the rotation is the mean of all cameras' differences.
"""

import dataclasses

import numpy as np

from ganavatar_jax.core.arrays import Float


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
    turns = np.einsum("fij,fkj->ik", truth[:, :3, :3], found[:, :3, :3])
    u, _, vt = np.linalg.svd(turns)
    rotation = (u * [1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))]) @ vt
    turned = rotation @ found[:, :3, :3]
    chord = np.linalg.norm(turned - truth[:, :3, :3], axis=(1, 2))
    angle = 2.0 * np.arcsin(np.clip(chord / np.sqrt(8.0), 0.0, 1.0))
    source, target = found[:, :3, 3] @ rotation.T, truth[:, :3, 3]
    source, target = source - source.mean(axis=0), target - target.mean(axis=0)
    scale = float((source * target).sum() / (source**2).sum())
    shift = np.linalg.norm(scale * source - target, axis=1)
    return PoseErrors(np.degrees(angle), shift, scale)
