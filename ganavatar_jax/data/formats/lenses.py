"""Lens distortion of COLMAP's and OpenCV's camera models, and removing it from images.

A point (x, y) = (X / Z, Y / Z) of the ideal camera appears, before the intrinsics are applied, at

    radial    (x, y) (1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶)
    fisheye   (u, v) (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸), (u, v) = (x, y) θ / r, θ = atan r
    fov       (x, y) atan(2 r tan(ω / 2)) / (r ω)

plus tangential(p1, p2) and the thin prism (s1 r² + s2 r⁴, s3 r² + s4 r⁴) of these coordinates.
Undistorted images keep size and intrinsics; what the lens did not see is black and transparent.

Source: Brown 1971; Kannala and Brandt 2006; Devernay and Faugeras 2001; OpenCV's and COLMAP's
documentation of the coefficients.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from ganavatar_jax.core.arrays import Float, UInt8


@dataclasses.dataclass(frozen=True)
class Lens:
    """Distortion coefficients; all zero is a pinhole, unless it is a fisheye.

    Attributes:
      k1: Radial, r².
      k2: Radial, r⁴.
      p1: Tangential.
      p2: Tangential.
      k3: Radial, r⁶.
      k4: Radial: the denominator's r²; fisheye: θ⁸.
      k5: The denominator's r⁴.
      k6: The denominator's r⁶.
      s1: Thin prism, x, r².
      s2: Thin prism, x, r⁴.
      s3: Thin prism, y, r².
      s4: Thin prism, y, r⁴.
      omega: Of "fov", radians.
      kind: The formula.
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    k5: float = 0.0
    k6: float = 0.0
    s1: float = 0.0
    s2: float = 0.0
    s3: float = 0.0
    s4: float = 0.0
    omega: float = 0.0
    kind: Literal["radial", "fisheye", "fov"] = "radial"

    @property
    def is_pinhole(self) -> bool:
        """Whether nothing is distorted."""
        return self.kind != "fisheye" and not any(dataclasses.astuple(self)[:-1])


def distort(points: Float[np.ndarray, "*b 2"], lens: Lens) -> Float[np.ndarray, "*b 2"]:
    """Finds where the lens shows points of the ideal camera.

    Args:
      points: X / Z and Y / Z.
      lens: The coefficients.

    Returns:
      Distorted coordinates on the plane Z = 1.

    Source: OpenCV, "Camera Calibration and 3D Reconstruction"; COLMAP's camera models.
    """
    if lens.kind == "fisheye":
        points = points * _ratio(np.linalg.norm(points, axis=-1), np.arctan)[..., None]
    if lens.kind == "fov" and lens.omega:
        wide = 2.0 * np.tan(0.5 * lens.omega)
        radius = np.linalg.norm(points, axis=-1)
        bent = _ratio(radius, lambda r: np.arctan(wide * r) / lens.omega, wide / lens.omega)
        points = points * bent[..., None]
    x, y = points[..., 0], points[..., 1]
    squared = x * x + y * y
    last = lens.k4 if lens.kind == "fisheye" else 0.0
    radial = 1.0 + squared * (lens.k1 + squared * (lens.k2 + squared * (lens.k3 + squared * last)))
    if lens.kind == "radial" and (lens.k4 or lens.k5 or lens.k6):
        radial /= 1.0 + squared * (lens.k4 + squared * (lens.k5 + squared * lens.k6))
    shift_x = 2.0 * lens.p1 * x * y + lens.p2 * (squared + 2.0 * x * x)
    shift_y = lens.p1 * (squared + 2.0 * y * y) + 2.0 * lens.p2 * x * y
    shift_x = shift_x + squared * (lens.s1 + squared * lens.s2)
    shift_y = shift_y + squared * (lens.s3 + squared * lens.s4)
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
    radius = np.linalg.norm(ideal, axis=-1)
    places[radius > _reach(lens, float(radius.max()))] = -2.0  # Outside of the image.
    return _sample(image, places)


def _ratio(
    radius: np.ndarray, bend: Callable[[np.ndarray], np.ndarray], at_zero: float = 1.0
) -> np.ndarray:
    """bend(r) / r, and its limit at the centre."""
    safe = np.where(radius > 1e-12, radius, 1.0)
    return np.where(radius > 1e-12, bend(safe) / safe, at_zero)


def _reach(lens: Lens, largest: float) -> float:
    """Radius up to which the polynomial grows; beyond, it would show the middle a second time."""
    radii = np.linspace(0.0, largest, 512)
    plain = dataclasses.replace(lens, p1=0.0, p2=0.0, s1=0.0, s2=0.0, s3=0.0, s4=0.0)
    shown = distort(np.stack([radii, np.zeros_like(radii)], axis=-1), plain)[:, 0]
    falls = np.flatnonzero((np.diff(shown) <= 0.0) | ~np.isfinite(shown[1:]))
    return float(radii[falls[0]]) if len(falls) else np.inf


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
