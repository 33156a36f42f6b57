"""Lens distortion of COLMAP's and OpenCV's camera models, and removing it from images.

A point (x, y) = (X / Z, Y / Z) of the ideal camera appears at
(x, y) (1 + k1 r² + k2 r⁴ + k3 r⁶) + tangential(p1, p2), before the intrinsics are applied.
Undistorted images keep size and intrinsics; what the lens did not see is black and transparent.

Source: Brown 1971; OpenCV's and COLMAP's documentation of the coefficients.
"""

import dataclasses

import numpy as np

from ganavatar_jax.core.arrays import Float, UInt8


@dataclasses.dataclass(frozen=True)
class Lens:
    """Distortion coefficients; all zero is a pinhole.

    Attributes:
      k1: Radial, r².
      k2: Radial, r⁴.
      p1: Tangential.
      p2: Tangential.
      k3: Radial, r⁶.
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0

    @property
    def is_pinhole(self) -> bool:
        """Whether nothing is distorted."""
        return not any(dataclasses.astuple(self))


def distort(points: Float[np.ndarray, "*b 2"], lens: Lens) -> Float[np.ndarray, "*b 2"]:
    """Finds where the lens shows points of the ideal camera.

    Args:
      points: X / Z and Y / Z.
      lens: The coefficients.

    Returns:
      Distorted coordinates on the plane Z = 1.

    Source: OpenCV, "Camera Calibration and 3D Reconstruction".
    """
    x, y = points[..., 0], points[..., 1]
    squared = x * x + y * y
    radial = 1.0 + squared * (lens.k1 + squared * (lens.k2 + squared * lens.k3))
    shift_x = 2.0 * lens.p1 * x * y + lens.p2 * (squared + 2.0 * x * x)
    shift_y = lens.p1 * (squared + 2.0 * y * y) + 2.0 * lens.p2 * x * y
    return np.stack([x * radial + shift_x, y * radial + shift_y], axis=-1)


def undistort_image(
    image: UInt8[np.ndarray, "h w *c"], intrinsics: Float[np.ndarray, "3 3"], lens: Lens
) -> UInt8[np.ndarray, "h w *c"]:
    """Resamples an image so that a pinhole with the same intrinsics describes it.

    Args:
      image: The image as taken; grey (no channel axis) or colour.
      intrinsics: Normalised by the image size.
      lens: The coefficients.

    Returns:
      The undistorted image, bilinear; 0 where the lens saw nothing.

    Source: standard inverse mapping.
    """
    if lens.is_pinhole:
        return image
    height, width = image.shape[:2]
    v, u = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )
    homogeneous = np.stack([u, v, np.ones_like(u)], axis=-1)
    ideal = (homogeneous @ np.linalg.inv(intrinsics.astype(np.float64)).T)[..., :2]
    seen = np.concatenate([distort(ideal, lens), np.ones_like(u)[..., None]], axis=-1)
    places = (seen @ intrinsics.astype(np.float64).T)[..., :2] * [width, height] - 0.5
    return _sample(image, places)


def _sample(
    image: UInt8[np.ndarray, "h w *c"], places: Float[np.ndarray, "h w 2"]
) -> UInt8[np.ndarray, "h w *c"]:
    height, width = image.shape[:2]
    low = np.floor(places).astype(int)
    part = places - low
    total = np.zeros(image.shape, np.float64)
    for step_x in (0, 1):
        for step_y in (0, 1):
            x, y = low[..., 0] + step_x, low[..., 1] + step_y
            weight = np.abs(1 - step_x - part[..., 0]) * np.abs(1 - step_y - part[..., 1])
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            weight = np.where(inside, weight, 0.0).reshape(height, width, *[1] * (image.ndim - 2))
            total += weight * image[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return np.rint(total).astype(np.uint8)
