"""Pinhole cameras, their 25-number labels, and the look-at camera of EG3D.

Camera axes are OpenCV's: x right, y down, z forward; `cam2world` holds them as columns. The world
is the head frame: y up, the face looks along +z, x to the right of the image of a frontal camera,
so a frontal camera at distance r is [diag(1, -1, -1) | (0, 0, r)]. `intrinsics` is normalized by
the image size: u = fx x/z + skew y/z + cx lies in [0, 1] across the image.

A `label25` is [cam2world row by row (16), intrinsics row by row (9)]; it exists only in files and
as the input of the networks that are conditioned on it. Everything else takes a `Camera`.

Source: EG3D (Chan et al. 2022), section 4 and its dataset format.
"""

import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import precision, trees
from ganavatar_jax.core.arrays import Array, Float

AnyArray = Array | np.ndarray

# Below this distance from 0 and pi the polar angle's cosine would round to +-1 (EG3D's limit).
_VERTICAL_MARGIN = 1e-5


@trees.pytree_dataclass
class Camera:
    """A pinhole camera, or a batch of them.

    Attributes:
      cam2world: Rigid transform from camera to world; OpenCV camera axes, world units.
      intrinsics: 3x3 matrix normalized by image size; last row 0 0 1.
    """

    cam2world: Float[AnyArray, "*b 4 4"]
    intrinsics: Float[AnyArray, "*b 3 3"]


def to_label25(camera: Camera) -> Float[Array, "*b 25"]:
    """Flattens a camera into the vector that files and networks use.

    Args:
      camera: Any camera.

    Returns:
      cam2world row by row, then intrinsics row by row.

    Source: EG3D dataset format.
    """
    cam2world, intrinsics_ = jnp.asarray(camera.cam2world), jnp.asarray(camera.intrinsics)
    batch = cam2world.shape[:-2]
    return jnp.concatenate([cam2world.reshape(*batch, 16), intrinsics_.reshape(*batch, 9)], axis=-1)


def from_label25(label25: Float[AnyArray, "*b 25"]) -> Camera:
    """Reads a camera from its vector.

    Args:
      label25: cam2world row by row, then intrinsics row by row.

    Returns:
      The camera; the inverse of `to_label25`.

    Raises:
      ValueError: the last axis does not hold 25 numbers.

    Source: EG3D dataset format.
    """
    label25 = jnp.asarray(label25)
    if label25.ndim < 1 or label25.shape[-1] != 25:
        raise ValueError(
            f"a camera label must hold 25 numbers in its last axis; got shape {label25.shape}. "
            "Pass [cam2world (16), intrinsics (9)]."
        )
    batch = label25.shape[:-1]
    return Camera(
        cam2world=label25[..., :16].reshape(*batch, 4, 4),
        intrinsics=label25[..., 16:].reshape(*batch, 3, 3),
    )


def mirror_label25(label25: Float[AnyArray, "*b 25"]) -> Float[Array, "*b 25"]:
    """Finds the label of the horizontally flipped image of a head mirrored in its x = 0 plane.

    Args:
      label25: Label of the image before flipping.

    Returns:
      Label with S cam2world S for S = diag(-1, 1, 1, 1), cx' = 1 - cx and skew' = -skew.

    Raises:
      ValueError: the last axis does not hold 25 numbers.

    Source: EG3D mirrored dataset, which negates only the pose entries (right for cx = 0.5 and
      skew = 0); the intrinsics follow from u' = 1 - u.
    """
    camera = from_label25(label25)
    signs = np.array([-1.0, 1.0, 1.0, 1.0])
    flip = jnp.asarray(np.outer(signs, signs), camera.cam2world.dtype)
    mirrored = camera.cam2world * jnp.broadcast_to(flip, camera.cam2world.shape)
    k = jnp.asarray(camera.intrinsics)
    k = k.at[..., 0, 1].set(-k[..., 0, 1]).at[..., 0, 2].set(1.0 - k[..., 0, 2])
    return to_label25(Camera(cam2world=mirrored, intrinsics=k))


def look_at(
    horizontal: float | Float[AnyArray, "*#b"],
    vertical: float | Float[AnyArray, "*#b"],
    *,
    pivot: tuple[float, float, float] | Float[AnyArray, "*#b 3"] = (0.0, 0.0, 0.0),
    radius: float | Float[AnyArray, "*#b"],
) -> Float[Array, "*b 4 4"]:
    """Places a camera on a sphere around the world origin and points it at a pivot.

    `horizontal` = `vertical` = pi/2 is frontal. A larger `horizontal` moves the camera to +x, a
    smaller `vertical` moves it up. `horizontal` is the azimuth itself; `vertical` is not the polar
    angle but goes through arccos(1 - 2 vertical/pi), which makes uniform draws uniform on the
    sphere; near pi/2 the polar angle moves by only 2/pi of the change.

    Args:
      horizontal: Azimuth, radians, 0..2 pi.
      vertical: Height parameter, radians, 0 (top) .. pi (bottom); clamped to [1e-5, pi - 1e-5].
      pivot: Point the camera looks at, world units.
      radius: Distance of the camera from the world origin (not from the pivot), world units.

    Returns:
      cam2world; the image's up direction is as close to world y as it can be.

    Source: EG3D look-at pose sampler without its jitter.
    """
    horizontal, vertical, radius = jnp.broadcast_arrays(horizontal, vertical, radius)
    vertical = jnp.clip(vertical, _VERTICAL_MARGIN, np.pi - _VERTICAL_MARGIN)
    polar = jnp.arccos(1.0 - 2.0 * vertical / np.pi)
    outward = jnp.stack(
        [
            -jnp.sin(polar) * jnp.cos(horizontal),
            jnp.cos(polar),
            jnp.sin(polar) * jnp.sin(horizontal),
        ],
        axis=-1,
    )
    origin, pivot = jnp.broadcast_arrays(radius[..., None] * outward, jnp.asarray(pivot))
    return look_at_from(origin, pivot)


def look_at_from(
    origin: Float[AnyArray, "*b 3"], pivot: Float[AnyArray, "*b 3"]
) -> Float[Array, "*b 4 4"]:
    """Points a camera at a given place towards a pivot, upright with respect to world y.

    Args:
      origin: Camera centre, world units; must not lie straight above or below the pivot.
      pivot: Point the camera looks at, world units.

    Returns:
      cam2world with OpenCV axes.

    Source: EG3D look-at pose sampler.
    """
    origin, pivot = jnp.asarray(origin), jnp.asarray(pivot)
    forward = _normalize(pivot - origin)
    up = jnp.broadcast_to(jnp.asarray([0.0, 1.0, 0.0], forward.dtype), forward.shape)
    right = -_normalize(jnp.cross(up, forward))
    down = _normalize(jnp.cross(forward, right))
    top = jnp.stack([right, down, forward, origin], axis=-1)
    bottom = jnp.asarray([[0.0, 0.0, 0.0, 1.0]], top.dtype)
    bottom = jnp.broadcast_to(bottom, (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, bottom], axis=-2)


def intrinsics(
    focal: float | Float[AnyArray, "*b"], *, cx: float = 0.5, cy: float = 0.5
) -> Float[Array, "*b 3 3"]:
    """Builds a normalized intrinsics matrix with square pixels and no skew.

    Args:
      focal: Focal length divided by the image side; FFHQ crops have 4.2647.
      cx: Principal point from the left, as a fraction of the width.
      cy: Principal point from the top, as a fraction of the height.

    Returns:
      [[focal, 0, cx], [0, focal, cy], [0, 0, 1]].

    Source: EG3D dataset format.
    """
    focal = jnp.asarray(focal)[..., None, None]
    scaled = jnp.asarray(np.diag([1.0, 1.0, 0.0]), focal.dtype)
    fixed = jnp.asarray([[0.0, 0.0, cx], [0.0, 0.0, cy], [0.0, 0.0, 1.0]], focal.dtype)
    shape = (*focal.shape[:-2], 3, 3)
    return focal * jnp.broadcast_to(scaled, shape) + jnp.broadcast_to(fixed, shape)


def yaw_pitch_deg(
    cam2world: Float[AnyArray, "*b 4 4"],
) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """Measures from which side of the head a camera looks, by its viewing direction.

    Args:
      cam2world: Camera pose in the head frame.

    Returns:
      yaw_deg: Degrees, 0 frontal, positive when the camera stands towards +x, (-180, 180].
      pitch_deg: Degrees, 0 level, positive when the camera looks down from above, [-90, 90].

    Source: ours; agrees with `look_at` around the origin, where yaw = horizontal - pi/2.
    """
    backward = -jnp.asarray(cam2world)[..., :3, 2]
    x, y, z = backward[..., 0], backward[..., 1], backward[..., 2]
    yaw = jnp.arctan2(x, z)
    pitch = jnp.arctan2(y, jnp.hypot(x, z))
    return jnp.degrees(yaw), jnp.degrees(pitch)


def project(
    camera: Camera, points: Float[AnyArray, "*#b n 3"]
) -> tuple[Float[Array, "*b n 2"], Float[Array, "*b n"]]:
    """Projects world points into images; `triangulation.project` is the same in float64.

    Args:
      camera: Cameras.
      points: World points of each camera; leading axes broadcast.

    Returns:
      uv: Image coordinates, 0..1 across the image, x first.
      depth: Distance along the camera's axis, world units; not positive behind the camera.

    Source: pinhole camera.
    """
    offset = jnp.asarray(points) - camera.cam2world[..., None, :3, 3]
    local = precision.einsum("...ji,...nj->...ni", camera.cam2world[..., :3, :3], offset)
    projected = precision.einsum("...ij,...nj->...ni", camera.intrinsics, local / local[..., 2:])
    return projected[..., :2], local[..., 2]


def _normalize(vector: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    return vector / jnp.linalg.norm(vector, axis=-1, keepdims=True)
