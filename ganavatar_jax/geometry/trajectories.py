"""Camera paths for videos: once around the head, and any turns of a given camera.

Every path is a `Camera` with a leading frame axis f.
"""

import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import precision
from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.geometry import cameras, rotations

AnyArray = Array | np.ndarray
Point = tuple[float, float, float] | Float[AnyArray, " 3"]

_FRONTAL = np.pi / 2


def orbit(
    frames: int,
    *,
    radius: float,
    intrinsics: Float[AnyArray, "3 3"],
    pivot: Point = (0.0, 0.0, 0.0),
    vertical: float = _FRONTAL,
) -> cameras.Camera:
    """Walks once around the head, starting in front and leaving towards +x.

    The end point is left out, so the last frame is followed by the first without a doubled picture.

    Args:
      frames: Number of cameras, f.
      radius: Distance from the world origin, world units.
      intrinsics: Normalized intrinsics of every frame.
      pivot: Point all cameras look at, world units.
      vertical: Height parameter of `cameras.look_at`, radians; pi/2 is level.

    Returns:
      Cameras with leading axis f, 2 pi / f of `horizontal` apart.

    Raises:
      ValueError: frames is not positive.
    """
    horizontal = _FRONTAL + _phases(frames)
    return _on_sphere(horizontal, jnp.full_like(horizontal, vertical), radius, intrinsics, pivot)


def around(
    start: cameras.Camera, yaw_deg: Float[AnyArray, " f"], pitch_deg: Float[AnyArray, " f"]
) -> cameras.Camera:
    """Carries a camera around the world origin, as if the head turned before it.

    Args:
      start: A camera without batch axes; seen from the front, the angles are those that
        `cameras.yaw_pitch_deg` measures.
      yaw_deg: Turn about the world's y axis, degrees; positive moves a frontal camera to +x.
      pitch_deg: Lift before that turn, about the world's x axis, degrees; positive moves up.

    Returns:
      Cameras with leading axis f; zero angles leave the camera where it is.
    """
    yaw, pitch = jnp.radians(jnp.asarray(yaw_deg)), jnp.radians(jnp.asarray(pitch_deg))
    still = jnp.zeros_like(yaw)
    turn = rotations.from_axis_angle(jnp.stack([still, yaw, still], axis=-1))
    lift = rotations.from_axis_angle(jnp.stack([-pitch, still, still], axis=-1))
    rotation = precision.einsum("fij,fjk->fik", turn, lift)
    pose = jnp.asarray(start.cam2world)
    moved = precision.einsum("fij,jk->fik", rotation, pose[:3])
    bottom = jnp.broadcast_to(pose[3:], (*yaw.shape, 1, 4))
    return cameras.Camera(
        cam2world=jnp.concatenate([moved, bottom], axis=1),
        intrinsics=jnp.broadcast_to(jnp.asarray(start.intrinsics), (*yaw.shape, 3, 3)),
    )


def _phases(frames: int) -> Float[Array, " f"]:
    if frames < 1:
        raise ValueError(f"a camera path needs frames >= 1; got {frames}. Ask for more.")
    return jnp.arange(frames) * (2.0 * np.pi / frames)


def _on_sphere(
    horizontal: Float[Array, " f"],
    vertical: Float[Array, " f"],
    radius: float,
    intrinsics: Float[AnyArray, "3 3"],
    pivot: Point,
) -> cameras.Camera:
    return cameras.Camera(
        cam2world=cameras.look_at(horizontal, vertical, pivot=pivot, radius=radius),
        intrinsics=jnp.broadcast_to(jnp.asarray(intrinsics), (*horizontal.shape, 3, 3)),
    )
