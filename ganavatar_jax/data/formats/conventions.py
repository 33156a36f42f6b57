"""The one place where other conventions of cameras become ours.

Ours: `cam2world` with OpenCV axes (x right, y down, z forward), right-handed, rigid; intrinsics
divided by the image size, with the first pixel's centre at 0.5 / width. All maths is float64.

    OpenGL, Blender, NeRF, NeRFace   x right, y up, z backward     from_opengl
    OpenCV, COLMAP, Multiface        world-to-camera [R | t]       from_world2cam
    NeRFace's negative focal length  part of the projection        fold_focal_signs
    a camera of handedness -1        the mirrored world's camera   reflect_world
    first pixel centre at 0          OpenCV's calibration          normalize_intrinsics

Source: the formats' own documentation; Hartley and Zisserman 2004, section 6.1.
"""

import numpy as np

from ganavatar_jax.core.arrays import Float

_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


def homogeneous(matrix: Float[np.ndarray, "r 4"]) -> Float[np.ndarray, "4 4"]:
    """Completes a 3x4 transform by the row 0 0 0 1.

    Args:
      matrix: 3x4, or 4x4 and then returned as it is.

    Returns:
      The 4x4 transform.

    Source: standard.
    """
    if matrix.shape[0] == 4:
        return matrix
    return np.concatenate([matrix, [[0.0, 0.0, 0.0, 1.0]]])


def from_opengl(cam2world: Float[np.ndarray, "r 4"]) -> Float[np.ndarray, "4 4"]:
    """Turns OpenGL camera axes (y up, z backward) into OpenCV's; the world stays.

    Args:
      cam2world: Pose with OpenGL axes.

    Returns:
      The same pose with OpenCV axes.

    Source: columns y and z change sign.
    """
    return homogeneous(cam2world) @ _OPENGL_TO_OPENCV


def from_world2cam(world2cam: Float[np.ndarray, "r 4"]) -> Float[np.ndarray, "4 4"]:
    """Inverts a rigid world-to-camera transform.

    Args:
      world2cam: [R | t] with OpenCV axes.

    Returns:
      [R^T | -R^T t].

    Source: standard.
    """
    inverse = np.eye(4)
    inverse[:3, :3] = world2cam[:3, :3].T
    inverse[:3, 3] = -world2cam[:3, :3].T @ world2cam[:3, 3]
    return inverse


def from_quaternion(quaternion: Float[np.ndarray, "4"]) -> Float[np.ndarray, "3 3"]:
    """Turns a quaternion of any length into a rotation matrix, in float64.

    Args:
      quaternion: [w, x, y, z].

    Returns:
      The rotation.

    Source: standard; COLMAP stores w first.
    """
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def from_axis_angle(rotation: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Turns an axis, as long as its angle in radians, into a rotation matrix.

    Args:
      rotation: Axis times angle.

    Returns:
      The rotation.

    Source: Rodrigues' formula.
    """
    angle = float(np.linalg.norm(rotation))
    half = 0.5 * angle
    sine = 0.5 * np.sinc(half / np.pi)  # sin(angle / 2) / angle, also at 0.
    return from_quaternion(np.array([np.cos(half), *(sine * rotation)]))


def fold_focal_signs(
    cam2world: Float[np.ndarray, "4 4"], focal: Float[np.ndarray, "2"]
) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "2"]]:
    """Moves the signs of negative focal lengths into the camera's axes.

    Args:
      cam2world: Pose.
      focal: Focal lengths of x and y, any sign.

    Returns:
      cam2world: The pose whose x (y) axis is turned round where fx (fy) was negative; a single
        negative one changes the handedness, see `reflect_world`.
      focal: Positive focal lengths. Every point projects where it did.

    Source: f x / z = |f| (sign(f) x) / z.
    """
    signs = np.where(focal < 0, -1.0, 1.0)
    return cam2world @ np.diag([*signs, 1.0, 1.0]), np.abs(focal)


def is_left_handed(cam2world: Float[np.ndarray, "4 4"]) -> bool:
    """Tells whether a camera's axes form a left-handed system.

    Args:
      cam2world: Pose.

    Returns:
      Whether the determinant of its axes is negative.

    Source: standard.
    """
    return bool(np.linalg.det(cam2world[:3, :3]) < 0)


def reflect_world(cam2world: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """Mirrors the world in its x = 0 plane, which makes left-handed cameras right-handed.

    Args:
      cam2world: Pose.

    Returns:
      The pose in the mirrored world: the mirrored point projects where the point did. To be
      applied to all cameras of a world or to none.

    Source: S cam2world with S = diag(-1, 1, 1, 1).
    """
    return _MIRROR @ cam2world


def normalize_intrinsics(
    focal_px: Float[np.ndarray, "2"],
    center_px: Float[np.ndarray, "2"],
    *,
    size: tuple[int | float, int | float],
    skew_px: float = 0.0,
    first_pixel_at: float = 0.5,
) -> Float[np.ndarray, "3 3"]:
    """Builds intrinsics divided by the image size.

    Args:
      focal_px: Focal lengths of x and y, pixels.
      center_px: Principal point, pixels.
      size: Width and height of the image these pixels belong to.
      skew_px: Skew, pixels.
      first_pixel_at: Coordinate that the calibration gives to the centre of the first pixel: 0.5
        (COLMAP, graphics) or 0 (OpenCV).

    Returns:
      [[fx, skew, cx], [0, fy, cy], [0, 0, 1]].

    Source: CONVENTIONS.md, pixel centres.
    """
    width, height = size
    shift = 0.5 - first_pixel_at
    return np.array(
        [
            [focal_px[0] / width, skew_px / width, (center_px[0] + shift) / width],
            [0.0, focal_px[1] / height, (center_px[1] + shift) / height],
            [0.0, 0.0, 1.0],
        ]
    )


def crop_intrinsics(
    intrinsics: Float[np.ndarray, "3 3"],
    *,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
) -> Float[np.ndarray, "3 3"]:
    """Finds the normalised intrinsics of a crop; enlarging or shrinking it changes nothing.

    Args:
      intrinsics: Of the whole image.
      size: Width and height of the whole image, pixels.
      box: Left, top, right and bottom of the crop, pixels; may reach beyond the image.

    Returns:
      Intrinsics divided by the crop's size.

    Source: f' = k f, c' = k (c - (x0, y0)), then division by the output size.
    """
    left, top, right, bottom = box
    scale = np.array([size[0] / (right - left), size[1] / (bottom - top)])
    offset = np.array([left / (right - left), top / (bottom - top)])
    cropped = intrinsics.astype(np.float64).copy()
    cropped[:2] *= scale[:, None]
    cropped[:2, 2] -= offset
    return cropped
