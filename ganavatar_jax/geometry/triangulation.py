"""Points in space from where several cameras see them, and projecting them back.

All in float64 on the host: the worlds of trackers are metres, millimetres or arbitrary units, and
a few points of a few hundred views need no compiler.

Source: Hartley and Zisserman 2004, sections 6.1 and 12.2; weights as in Geman and McClure 1985.
"""

import numpy as np

from ganavatar_jax.core.arrays import Bool, Float

_ROBUST_PASSES = 10
# Median of |x| of a unit Gaussian in two dimensions: turns a median residual into a deviation.
_RAYLEIGH_MEDIAN = 1.1774
_SMALLEST = 1e-12


def project(
    points: Float[np.ndarray, "n 3"],
    cam2world: Float[np.ndarray, "v 4 4"],
    intrinsics: Float[np.ndarray, "v 3 3"],
) -> tuple[Float[np.ndarray, "v n 2"], Float[np.ndarray, "v n"]]:
    """Projects world points into every view.

    Args:
      points: World points.
      cam2world: Poses with OpenCV axes.
      intrinsics: Normalised by the image size.

    Returns:
      uv: Image coordinates, 0..1 across the image, x first.
      z: Depth along the camera's axis, world units; not positive behind the camera.

    Source: pinhole camera.
    """
    rotation, origin = cam2world[:, :3, :3].astype(np.float64), cam2world[:, :3, 3]
    local = np.einsum("vji,vnj->vni", rotation, points[None] - origin[:, None])
    homogeneous = np.einsum("vij,vnj->vni", intrinsics.astype(np.float64), local)
    depth = local[..., 2]
    return homogeneous[..., :2] / np.where(depth == 0, np.inf, depth)[..., None], depth


def rays(
    uv: Float[np.ndarray, "v n 2"],
    cam2world: Float[np.ndarray, "v 4 4"],
    intrinsics: Float[np.ndarray, "v 3 3"],
) -> Float[np.ndarray, "v n 3"]:
    """Finds the direction in which each view sees an image point.

    Args:
      uv: Image coordinates, 0..1 across the image.
      cam2world: Poses with OpenCV axes.
      intrinsics: Normalised by the image size.

    Returns:
      Unit directions in the world; the rays start at the cameras' centres.

    Source: pinhole camera.
    """
    homogeneous = np.concatenate([uv, np.ones_like(uv[..., :1])], axis=-1).astype(np.float64)
    inverse = np.linalg.inv(intrinsics.astype(np.float64))
    local = np.einsum("vij,vnj->vni", inverse, homogeneous)
    world = np.einsum("vij,vnj->vni", cam2world[:, :3, :3].astype(np.float64), local)
    return world / np.linalg.norm(world, axis=-1, keepdims=True)


def triangulate(
    uv: Float[np.ndarray, "v n 2"],
    cam2world: Float[np.ndarray, "v 4 4"],
    intrinsics: Float[np.ndarray, "v 3 3"],
    *,
    seen: Bool[np.ndarray, "v n"] | None = None,
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "v n"]]:
    """Finds the points nearest to the rays of all views, ignoring views that disagree.

    Args:
      uv: Where each view sees each point, 0..1 across the image.
      cam2world: Poses with OpenCV axes; at least two different centres.
      intrinsics: Normalised by the image size.
      seen: Which entries count; None counts all.

    Returns:
      points: World points.
      residual: Distance between observed and projected place, in image sides; NaN where not seen.

    Raises:
      ValueError: there are fewer than two views, or all of them stand in one place.

    Source: least squares on the rays, reweighted by Geman and McClure's function of the angle.
    """
    directions = rays(uv, cam2world, intrinsics)
    origins = cam2world[:, :3, 3].astype(np.float64)
    spread = np.linalg.norm(origins - origins.mean(axis=0), axis=-1).max(initial=0.0)
    if len(origins) < 2 or spread <= 1e-6 * np.linalg.norm(origins, axis=-1).max(initial=1.0):
        raise ValueError(
            f"triangulation needs at least two camera centres; got {len(origins)} views within "
            f"{spread:.3g} units. Use views from different sides."
        )
    visible = np.ones(uv.shape[:2], bool) if seen is None else seen
    weights = visible.astype(np.float64)
    points = _nearest_points(origins, directions, weights)
    for _ in range(_ROBUST_PASSES):
        residual = _angles(points, origins, directions)
        scale = np.median(residual[visible]) / _RAYLEIGH_MEDIAN + _SMALLEST
        weights = visible / (1.0 + (residual / (2.0 * scale)) ** 2) ** 2
        points = _nearest_points(origins, directions, weights)
    projected, depth = project(points, cam2world, intrinsics)
    distance = np.linalg.norm(projected - uv, axis=-1)
    return points, np.where(visible & (depth > 0), distance, np.nan)


def _nearest_points(
    origins: Float[np.ndarray, "v 3"],
    directions: Float[np.ndarray, "v n 3"],
    weights: Float[np.ndarray, "v n"],
) -> Float[np.ndarray, "n 3"]:
    # The projector onto the plane across a ray; its weighted sum is the normal matrix.
    across = np.eye(3) - directions[..., :, None] * directions[..., None, :]
    normal = np.einsum("vn,vnij->nij", weights, across)
    target = np.einsum("vn,vnij,vj->ni", weights, across, origins)
    regular = normal + _SMALLEST * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    return np.linalg.solve(regular, target[..., None])[..., 0]


def _angles(
    points: Float[np.ndarray, "n 3"],
    origins: Float[np.ndarray, "v 3"],
    directions: Float[np.ndarray, "v n 3"],
) -> Float[np.ndarray, "v n"]:
    offset = points[None] - origins[:, None]
    distance = np.linalg.norm(np.cross(offset, directions), axis=-1)
    return distance / np.maximum(np.linalg.norm(offset, axis=-1), _SMALLEST)
