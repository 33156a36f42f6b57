"""Checks camera labels as they come out of files.

A wrong label trains without complaint and gives a head that turns the wrong way, so everything
that can be told from the 25 numbers is told here, in the words of the likely mistake.
"""

from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float

# Labels are often written with five or more digits; a scale of 0.1 % is already beyond them.
_ROTATION_TOLERANCE = 1e-3
_EXACT_TOLERANCE = 1e-4
# Normalized focal lengths lie near 1..10 and centres near 0.5; pixel units are far above both.
_LARGEST_FOCAL = 50.0
_LARGEST_CENTRE = 5.0
# JSON integers have no limit; float32 ends at 3e38.
_LARGEST_NUMBER = 1e30


def check_label25(values: Any, *, where: str) -> Float[np.ndarray, " 25"]:
    """Turns what a file holds as a camera label into 25 checked numbers.

    Args:
      values: The label as read from JSON.
      where: File and frame, for messages.

    Returns:
      The label as float32.

    Raises:
      DataFormatError: it is not 25 finite numbers, the pose is not rigid and right-handed, or the
        intrinsics are not normalized by the image size.

    Source: EG3D dataset format; OpenCV camera axes.
    """
    label = _to_numbers(values, where)
    _check_pose(label[:16].reshape(4, 4), where)
    _check_intrinsics(label[16:].reshape(3, 3), where)
    return label.astype(np.float32)


def find_not_finite(values: list[int | float]) -> int | None:
    """Finds the first number of a JSON list that cannot be stored as float32.

    Args:
      values: The numbers; JSON integers may be arbitrarily large.

    Returns:
      Position of the first NaN, infinity or number beyond 1e30; None when there is none.
    """
    return next((i for i, value in enumerate(values) if not abs(value) < _LARGEST_NUMBER), None)


def find_no_number(values: list[Any]) -> int | None:
    """Finds the first entry of a JSON list that is not a number.

    Args:
      values: What the file holds.

    Returns:
      Position of the first entry that is neither an integer nor a float; None when there is none.
    """
    return next((i for i, value in enumerate(values) if type(value) not in (int, float)), None)


def _to_numbers(values: Any, where: str) -> np.ndarray:
    """Turns a JSON label into numbers, or names the first entry that is none."""
    if not isinstance(values, list):
        raise errors.DataFormatError(
            f"{where}: expected a label of 25 numbers; got {_short(values)}. Write cam2world row "
            "by row (16), then the intrinsics row by row (9)."
        )
    index = find_no_number(values)
    if index is not None:
        raise errors.DataFormatError(
            f"{where}: label entry {index} must be a number; got {_short(values[index])}. Write "
            "plain JSON numbers, without quotes."
        )
    if len(values) != 25:
        raise errors.DataFormatError(
            f"{where}: expected a label of 25 numbers; got {len(values)}. Write cam2world row by "
            "row (16), then the intrinsics row by row (9)."
        )
    index = find_not_finite(values)
    if index is not None:
        raise errors.DataFormatError(
            f"{where}: label entry {index} must be finite; got {_short(values[index])}. Remove the "
            "frame or track it again."
        )
    return np.array(values, np.float64)


def _check_pose(cam2world: np.ndarray, where: str) -> None:
    """Refuses transposed, scaled and mirrored poses: each would train without complaint."""
    if np.abs(cam2world[3] - [0.0, 0.0, 0.0, 1.0]).max() > _EXACT_TOLERANCE:
        raise errors.DataFormatError(
            f"{where}: the last row of cam2world must be 0 0 0 1; got {_row(cam2world[3])}. Write "
            "the matrix row by row; a transposed one has its translation there."
        )
    rotation = cam2world[:3, :3]
    deviation = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if deviation > _ROTATION_TOLERANCE:
        raise errors.DataFormatError(
            f"{where}: the rotation of cam2world must be orthonormal; R^T R is off the identity by "
            f"{deviation:.3g}. Take scale and shear out of it; a world scale belongs into the "
            "translation only."
        )
    if np.linalg.det(rotation) < 0:
        raise errors.DataFormatError(
            f"{where}: the rotation of cam2world must be right-handed; its determinant is -1. "
            "OpenCV axes are x right, y down, z forward; from OpenGL negate columns y AND z."
        )


def _check_intrinsics(intrinsics: np.ndarray, where: str) -> None:
    """Refuses intrinsics in pixels, mirrored ones and transposed ones."""
    fx, skew, cx = intrinsics[0]
    zero, fy, cy = intrinsics[1]
    if max(abs(fx), abs(fy)) > _LARGEST_FOCAL or max(abs(cx), abs(cy)) > _LARGEST_CENTRE:
        raise errors.DataFormatError(
            f"{where}: intrinsics must be normalized by the image size (fx usually 1..10, cx near "
            f"0.5); got fx={fx:g}, cx={cx:g}. Divide fx, skew, cx by the width and fy, cy by the "
            "height in pixels."
        )
    if fx <= 0 or fy <= 0:
        raise errors.DataFormatError(
            f"{where}: focal lengths must be positive; got fx={fx:g}, fy={fy:g}. Turn a negative "
            "focal length into a rotation of the camera by half a turn."
        )
    lower = np.array([zero, *intrinsics[2]])
    if np.abs(lower - [0.0, 0.0, 0.0, 1.0]).max() > _EXACT_TOLERANCE:
        raise errors.DataFormatError(
            f"{where}: intrinsics must be [[fx, skew, cx], [0, fy, cy], [0, 0, 1]]; got "
            f"{_row(intrinsics[0])} / {_row(intrinsics[1])} / {_row(intrinsics[2])}. Write them "
            "row by row."
        )


def _row(values: np.ndarray) -> str:
    return " ".join(f"{value:g}" for value in values)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
