"""How a head is held towards its camera: turned, nodded, tilted.

The signs are the person's own, see CONVENTIONS.md: a positive yaw turns the face to the person's
left, a positive pitch raises the chin, a positive roll tilts the head to the left shoulder.
Each is the negative of the same angle of the camera in the head frame.
"""

import numpy as np

from ganavatar_jax.core.arrays import Float


def from_cameras(cam2world: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b 3"]:
    """Reads the head's angles off cameras in the head frame.

    Args:
      cam2world: Poses with OpenCV axes.

    Returns:
      Yaw, pitch and roll of the head against the camera, degrees; all are zero for a frontal
      camera. With a camera in the direction (x, y, z) from where it looks, yaw is atan2(-x, z) and
      pitch asin(-y).
    """
    rotation = cam2world[..., :3, :3].astype(np.float64)
    toward = -rotation[..., :, 2]
    yaw = np.arctan2(toward[..., 0], toward[..., 2])  # of the camera
    pitch = np.arcsin(np.clip(toward[..., 1], -1.0, 1.0))
    zero = np.zeros_like(yaw)
    right = np.stack([np.cos(yaw), zero, -np.sin(yaw)], axis=-1)
    down = np.cross(-toward, right)
    roll = np.arctan2((rotation[..., 0] * down).sum(-1), (rotation[..., 0] * right).sum(-1))
    return -np.degrees(np.stack([yaw, pitch, roll], axis=-1))
