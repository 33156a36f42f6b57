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
    yaw, pitch = view_angles(rotation)
    zero = np.zeros_like(yaw)
    right = np.stack([np.cos(yaw), zero, -np.sin(yaw)], axis=-1)
    down = np.cross(rotation[..., 2], right)
    roll = np.arctan2((rotation[..., 0] * down).sum(-1), (rotation[..., 0] * right).sum(-1))
    return -np.degrees(np.stack([yaw, pitch, roll], axis=-1))


def view_angles(
    camera_axes: Float[np.ndarray, "*b 3 3"],
) -> tuple[Float[np.ndarray, "*b"], Float[np.ndarray, "*b"]]:
    """Finds from where cameras look at the head.

    Args:
      camera_axes: Rotation of cam2world.

    Returns:
      yaw: Of the camera around the head, radians; positive where it stands at the head's left.
      pitch: Radians; positive where it stands above.
    """
    backward = -camera_axes[..., 2]
    # Of a single camera NumPy makes scalars, which are no arrays.
    yaw = np.asarray(np.arctan2(backward[..., 0], backward[..., 2]))
    return yaw, np.asarray(np.arcsin(np.clip(backward[..., 1], -1.0, 1.0)))


def to_cameras(
    rotation: Float[np.ndarray, "f 3 3"], translation: Float[np.ndarray, "f 3"]
) -> Float[np.ndarray, "f 4 4"]:
    """Turns poses of a head before a camera into cameras around the head.

    Args:
      rotation: Head to camera.
      translation: Head to camera, world units.

    Returns:
      cam2world in the head frame.
    """
    poses = np.tile(np.eye(4), (len(rotation), 1, 1))
    poses[:, :3, :3] = np.swapaxes(rotation, 1, 2)
    poses[:, :3, 3] = -np.einsum("fji,fj->fi", rotation, translation)
    return poses


def turn_slopes(rotation: Float[np.ndarray, "f 3 3"]) -> Float[np.ndarray, "f 3 3"]:
    """Differentiates yaw, pitch and roll by a turn of the head in the camera.

    Args:
      rotation: Head to camera.

    Returns:
      Slopes of each angle (rows) by the turn's rotation vector, applied last.
    """
    backward = -rotation[:, 2]
    # A turn w moves the viewing direction, seen from the head, by R^T (w x z).
    moves = np.stack([-rotation[:, 1], rotation[:, 0], np.zeros_like(backward)], axis=-1)
    flat = np.maximum(backward[:, 0] ** 2 + backward[:, 2] ** 2, 1e-2)[:, None]
    yaw = (backward[:, 2:] * moves[:, 0] - backward[:, :1] * moves[:, 2]) / flat
    pitch = moves[:, 1] / np.sqrt(flat)
    roll = np.tile([0.0, 0.0, 1.0], (len(rotation), 1))
    return np.stack([yaw, pitch, roll], axis=1)
