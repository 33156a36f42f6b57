"""Camera paths for videos: around the head, small loops before the face, and between two poses.

Every path is a `Camera` with a leading frame axis f. Loops leave out the end point, so the last
frame is followed by the first without a doubled picture. Angles are offsets from the frontal
`horizontal` = `vertical` = pi/2 of `cameras.look_at`; distances are world units.
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

    Source: ours.
    """
    horizontal = _FRONTAL + _phases(frames)
    return _on_sphere(horizontal, jnp.full_like(horizontal, vertical), radius, intrinsics, pivot)


def ellipse(
    frames: int,
    *,
    radius: float,
    intrinsics: Float[AnyArray, "3 3"],
    pivot: Point = (0.0, 0.0, 0.0),
    yaw_amplitude: float = 0.35,
    pitch_amplitude: float = 0.25,
    pitch_offset: float = -0.05,
) -> cameras.Camera:
    """Circles once before the face, as in EG3D's videos.

    Args:
      frames: Number of cameras, f.
      radius: Distance from the world origin, world units.
      intrinsics: Normalized intrinsics of every frame.
      pivot: Point all cameras look at, world units.
      yaw_amplitude: Largest offset of `horizontal`, radians.
      pitch_amplitude: Largest offset of `vertical` from its centre, radians.
      pitch_offset: Offset of the centre of `vertical`, radians; negative is from above.

    Returns:
      Cameras with leading axis f: horizontal pi/2 + A sin(phase), vertical pi/2 + offset +
      B cos(phase).

    Raises:
      ValueError: frames is not positive.

    Source: EG3D video script's amplitudes; it writes 3.14 for pi, we do not (0.0008 rad).
    """
    phases = _phases(frames)
    horizontal = _FRONTAL + yaw_amplitude * jnp.sin(phases)
    vertical = _FRONTAL + pitch_offset + pitch_amplitude * jnp.cos(phases)
    return _on_sphere(horizontal, vertical, radius, intrinsics, pivot)


def figure_eight(
    frames: int,
    *,
    radius: float,
    intrinsics: Float[AnyArray, "3 3"],
    pivot: Point = (0.0, 0.0, 0.0),
    yaw_amplitude: float = 0.35,
    pitch_amplitude: float = 0.25,
) -> cameras.Camera:
    """Draws a lying eight before the face, passing the frontal view twice.

    Args:
      frames: Number of cameras, f.
      radius: Distance from the world origin, world units.
      intrinsics: Normalized intrinsics of every frame.
      pivot: Point all cameras look at, world units.
      yaw_amplitude: Largest offset of `horizontal`, radians.
      pitch_amplitude: Largest offset of `vertical`, radians.

    Returns:
      Cameras with leading axis f: horizontal pi/2 + A sin(phase), vertical pi/2 +
      B sin(2 phase).

    Raises:
      ValueError: frames is not positive.

    Source: Lissajous curve 1:2.
    """
    phases = _phases(frames)
    horizontal = _FRONTAL + yaw_amplitude * jnp.sin(phases)
    vertical = _FRONTAL + pitch_amplitude * jnp.sin(2.0 * phases)
    return _on_sphere(horizontal, vertical, radius, intrinsics, pivot)


def interpolate(
    start: cameras.Camera, end: cameras.Camera, frames: int, *, pivot: Point = (0.0, 0.0, 0.0)
) -> cameras.Camera:
    """Swings from one camera to another around a pivot, both ends included.

    The rotation is blended along its shortest arc; the pivot as the camera sees it, and the
    intrinsics, are blended linearly. Two cameras at the same distance that look at the pivot
    therefore stay on the sphere and keep looking at it.

    Args:
      start: Camera of the first frame, without batch axes.
      end: Camera of the last frame, without batch axes.
      frames: Number of cameras, f; at least 2.
      pivot: Point to swing around, world units.

    Returns:
      Cameras with leading axis f.

    Raises:
      ValueError: frames is below 2.

    Source: ours, with Shoemake 1985 for the rotation.
    """
    if frames < 2:
        raise ValueError(
            f"interpolating cameras needs frames >= 2 for its two ends; got {frames}. Ask for more."
        )
    fraction = jnp.linspace(0.0, 1.0, frames)
    start_pose, end_pose = jnp.asarray(start.cam2world), jnp.asarray(end.cam2world)
    rotation = rotations.slerp(
        jnp.broadcast_to(start_pose[:3, :3], (frames, 3, 3)),
        jnp.broadcast_to(end_pose[:3, :3], (frames, 3, 3)),
        fraction,
    )
    point = jnp.asarray(pivot)
    seen = _blend(_into_camera(start_pose, point), _into_camera(end_pose, point), fraction)
    origin = jnp.broadcast_to(point, seen.shape) - precision.einsum("fij,fj->fi", rotation, seen)
    top = jnp.concatenate([rotation, origin[:, :, None]], axis=-1)
    bottom = jnp.broadcast_to(jnp.asarray([[0.0, 0.0, 0.0, 1.0]], top.dtype), (frames, 1, 4))
    return cameras.Camera(
        cam2world=jnp.concatenate([top, bottom], axis=1),
        intrinsics=_blend(jnp.asarray(start.intrinsics), jnp.asarray(end.intrinsics), fraction),
    )


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

    Source: ours.
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


def _into_camera(cam2world: Float[Array, "4 4"], point: Float[Array, " 3"]) -> Array:
    return precision.matmul(cam2world[:3, :3].T, point - cam2world[:3, 3])


def _blend(start: Array, end: Array, fraction: Float[Array, " f"]) -> Array:
    weight = fraction.reshape(-1, *(1 for _ in start.shape))
    return (1.0 - weight) * start[None] + weight * end[None]
