"""Square image regions that may be rotated, and cutting them out.

Image points are continuous pixels: x right, y down, pixel (i, j) covers [i, i+1) x [j, j+1), so
its centre lies at +0.5. Region points are unitless in [0, 1] with the same axes; rotating by
`angle` radians turns the region's x axis towards the image's y axis (clockwise as seen).
"""

import dataclasses

import numpy as np
from PIL import Image

from ganavatar_jax.core.arrays import Bool, Float, UInt8

_TOLERANCE = 1e-3  # In pixels: a region that ends where its picture does lies in it.


@dataclasses.dataclass(frozen=True)
class Region:
    """A square: centre and side in pixels, angle in radians."""

    center_x_px: float
    center_y_px: float
    side_px: float
    angle: float = 0.0


def whole_image(width_px: int, height_px: int) -> Region:
    """Makes the smallest upright square around an image, centred on it.

    Args:
      width_px: Image width.
      height_px: Image height.

    Returns:
      A region whose side is the longer one; it reaches beyond the shorter one.

    Source: MediaPipe's letterboxing before face detection (behaviour).
    """
    return Region(width_px / 2, height_px / 2, float(max(width_px, height_px)))


def tiles(width_px: int, height_px: int, *, level: int) -> list[Region]:
    """Makes overlapping squares that cover an image, for finding faces that are small in it.

    Args:
      width_px: Image width.
      height_px: Image height.
      level: Tiles have the longer side divided by 2**level, at half-tile steps.

    Returns:
      The tiles, row by row.

    Raises:
      ValueError: level is less than one.
    """
    if level < 1:
        raise ValueError(f"tiles need level >= 1 (0 is the whole image); got {level}.")
    side = max(width_px, height_px) / 2**level

    def centers(extent: int) -> list[float]:
        if extent <= side:
            return [extent / 2]
        count = int(np.ceil((extent - side) / (side / 2))) + 1
        return np.linspace(side / 2, extent - side / 2, count).tolist()

    return [Region(x, y, side) for y in centers(height_px) for x in centers(width_px)]


def eye_line_angle(right_eye: Float[np.ndarray, "2"], left_eye: Float[np.ndarray, "2"]) -> float:
    """Returns the angle of an upright region for a face with these eyes.

    Args:
      right_eye: The person's right eye (left in the image), in image axes.
      left_eye: The person's left eye.

    Returns:
      Radians in [-pi, pi]; zero when the eyes are level.

    Source: MediaPipe's region rotation (behaviour).
    """
    step_x, step_y = left_eye - right_eye
    return float(np.arctan2(step_y, step_x))


def around_points(points: Float[np.ndarray, "n 2"], *, angle: float, scale: float) -> Region:
    """Makes the square around the points' box, the box being rotated by an angle.

    Args:
      points: Points to enclose, pixels.
      angle: Rotation of box and region, radians.
      scale: Side of the square over the longest side of the box.

    Returns:
      The region, centred on the rotated box.

    Source: MediaPipe's landmarks-to-region steps (behaviour): rotated box, long side, scale.
    """
    axes = _axes(angle)
    along = points.astype(np.float64) @ axes.T  # coordinates in the rotated frame
    low, high = along.min(axis=0), along.max(axis=0)
    center = (low + high) / 2 @ axes
    return Region(float(center[0]), float(center[1]), float((high - low).max()) * scale, angle)


def to_image(points: Float[np.ndarray, "*b n 2"], region: Region) -> Float[np.ndarray, "*b n 2"]:
    """Maps unit region coordinates to image pixels.

    Args:
      points: Points, [0, 1] inside the region.
      region: The region.

    Returns:
      Points in pixels, same dtype.

    Source: ours; the inverse of `to_region`.
    """
    offset = (points - 0.5) * region.side_px @ _axes(region.angle)
    center = np.array([region.center_x_px, region.center_y_px])
    return (offset + center).astype(points.dtype)


def to_region(points: Float[np.ndarray, "*b n 2"], region: Region) -> Float[np.ndarray, "*b n 2"]:
    """Maps image pixels to unit region coordinates.

    Args:
      points: Points in pixels.
      region: The region.

    Returns:
      Points, [0, 1] inside the region, same dtype.

    Source: ours; the inverse of `to_image`.
    """
    center = np.array([region.center_x_px, region.center_y_px])
    unit = (points - center) @ _axes(region.angle).T / region.side_px + 0.5
    return unit.astype(points.dtype)


def crop(
    image_u8: UInt8[np.ndarray, "h w 3"], region: Region, *, size_px: int
) -> UInt8[np.ndarray, "s s 3"]:
    """Cuts a region out of an image, bilinearly, repeating the image's edge outside.

    Regions more than twice the wanted size are first shrunk by a whole factor (box filter), so
    that fine texture does not alias.

    Args:
      image_u8: The image, 0..255.
      region: What to cut out.
      size_px: Side of the result.

    Returns:
      The region, upright, 0..255.
    """
    factor, (left, top, right, bottom) = _find_window(region, size_px)
    picture = Image.fromarray(_window(image_u8, left, top, right, bottom))
    if factor > 1:
        picture = picture.reduce(factor)
    step = region.side_px / (size_px * factor)  # picture pixels per result pixel
    cos, sin = np.cos(region.angle) * step, np.sin(region.angle) * step
    start_x, start_y = (_corners(region)[0] - (left, top)) / factor
    coefficients = (cos, -sin, start_x, sin, cos, start_y)
    mode, filter_ = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(picture.transform((size_px, size_px), mode, coefficients, filter_))


def inside(region: Region, picture_px: tuple[int, int], *, size_px: int) -> Bool[np.ndarray, "s s"]:
    """Tells which pixels of a region's cut-out lie in the picture: the others `crop` makes up.

    Args:
      region: What is cut out.
      picture_px: Width and height of the picture.
      size_px: Side of the cut-out.

    Returns:
      True where all that `crop` reads for a pixel was in the picture.
    """
    factor, box = _find_window(region, size_px)
    if min(box[:2]) >= 0 and box[2] <= picture_px[0] and box[3] <= picture_px[1]:
        return np.ones((size_px, size_px), bool)
    steps = (np.arange(size_px) + 0.5) / size_px
    if region.angle == 0.0:  # Rows and columns are alike.
        points = to_image(np.stack([steps, steps], axis=-1), region)
        columns, rows = _are_read(points, factor, box, picture_px).T
        return rows[:, None] & columns[None]
    points = to_image(np.stack(np.meshgrid(steps, steps), axis=-1), region)
    across, down = np.moveaxis(_are_read(points, factor, box, picture_px), -1, 0)
    return across & down


def _are_read(
    points: Float[np.ndarray, "*b 2"],
    factor: int,
    box: tuple[int, int, int, int],
    picture_px: tuple[int, int],
) -> Bool[np.ndarray, "*b 2"]:
    """Tells along each axis whether the pixels between whose centres a point lies are all there."""
    places = (points - np.array(box[:2])) / factor - 0.5
    first = np.array(box[:2]) + factor * np.floor(places + _TOLERANCE)
    end = np.array(box[:2]) + factor * (np.ceil(places - _TOLERANCE) + 1)
    return (first >= 0) & (end <= np.array(picture_px))


def _find_window(region: Region, size_px: int) -> tuple[int, tuple[int, int, int, int]]:
    """Finds by what factor a region is shrunk first, and the window of the image that is."""
    corners = _corners(region)
    factor = max(1, int(region.side_px // size_px))
    left, top = (np.floor(corners.min(axis=0)).astype(int) - factor).tolist()
    right, bottom = (np.ceil(corners.max(axis=0)).astype(int) + factor).tolist()
    return factor, (left, top, right, bottom)


def _corners(region: Region) -> Float[np.ndarray, "4 2"]:
    return to_image(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), region)


def _axes(angle: float) -> Float[np.ndarray, "2 2"]:
    # Rows are the region's x and y axes in the image.
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def _window(
    image_u8: UInt8[np.ndarray, "h w 3"], left: int, top: int, right: int, bottom: int
) -> UInt8[np.ndarray, "wh ww 3"]:
    height, width, _ = image_u8.shape
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return np.ascontiguousarray(image_u8[top:bottom, left:right])
    rows = np.clip(np.arange(top, bottom), 0, height - 1)
    columns = np.clip(np.arange(left, right), 0, width - 1)
    return np.ascontiguousarray(image_u8[rows][:, columns])
