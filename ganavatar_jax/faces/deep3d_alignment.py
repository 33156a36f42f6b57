"""The alignment Deep3DFaceRecon was trained with: five landmarks to a 224-pixel crop.

Points are (x, y) in pixels as a detector gives them: y down, the first pixel's centre at 0. The
order is left eye, right eye, nose, left and right mouth corner, sides as seen in the image.

Source: Deng et al. 2019; the original's behaviour, truncations included.
"""

import math

import numpy as np
from PIL import Image

from ganavatar_jax.core.arrays import Float, UInt8

SIZE_PX = 224
_TARGET = 102.0  # pixels to which one unit of the template is brought
_MAX_SIDE_PX = 1 << 14  # a larger resized image means that the points are no face

# The template's five points, in its own unit: x right, y up, z out of the face.
_TEMPLATE = np.array(
    [
        [-0.31148657, 0.29036078, 0.13377953],
        [0.30979887, 0.28972036, 0.13179526],
        [0.0032535, -0.04617932, 0.55244243],
        [-0.25216928, -0.38133916, 0.22405732],
        [0.2484662, -0.38128236, 0.22235769],
    ]
)


def align(
    image_u8: UInt8[np.ndarray, "h w 3"], points: Float[np.ndarray, "5 2"]
) -> UInt8[np.ndarray, "224 224 3"] | None:
    """Resizes and crops an image so that its face lies where the regressor expects it.

    Args:
      image_u8: RGB image, 0..255.
      points: The five points in it.

    Returns:
      The crop, black outside the image; None where the points cannot be a face.

    Source: Deng et al. 2019; the original's behaviour: two independent least squares, truncated
    sizes and offsets, bicubic resizing.
    """
    height, width, _ = image_u8.shape
    fit = fit_template(np.stack([points[:, 0], height - 1 - points[:, 1]], axis=1))
    if fit is None:
        return None
    scale, shift_x, shift_y = fit
    new_width, new_height = int(width * scale), int(height * scale)
    if not (1 <= new_width <= _MAX_SIDE_PX and 1 <= new_height <= _MAX_SIDE_PX):
        return None
    resized = Image.fromarray(image_u8).resize((new_width, new_height), Image.Resampling.BICUBIC)
    left = int(new_width / 2 - SIZE_PX / 2 + (shift_x - width / 2) * scale)
    top = int(new_height / 2 - SIZE_PX / 2 + (height / 2 - shift_y) * scale)
    return np.asarray(resized.crop((left, top, left + SIZE_PX, top + SIZE_PX)))


def fit_template(points: Float[np.ndarray, "5 2"]) -> tuple[float, float, float] | None:
    """Fits the template to five points: x = a . template + shift_x, likewise y, by least squares.

    Args:
      points: The five points, y up.

    Returns:
      Scale that brings a template unit to 102 pixels, shift_x and shift_y in pixels; None where
      the points all coincide or are not finite.

    Source: Deng et al. 2019; the original's behaviour.
    """
    if not np.isfinite(points).all():
        return None
    system = np.concatenate([_TEMPLATE, np.ones((5, 1))], axis=1)
    solution, *_ = np.linalg.lstsq(system, points.astype(np.float64), rcond=None)
    length = float(np.linalg.norm(solution[:3], axis=0).mean())
    if not math.isfinite(length) or length <= 1e-6 * (1.0 + float(np.abs(points).max())):
        return None
    return _TARGET / length, float(solution[3, 0]), float(solution[3, 1])
