"""Cuts square images out of frames of any shape, with their cameras.

Crops have whole-pixel borders, so no pixel is resampled here. Where a crop reaches beyond its
image, nothing was filmed: the matte is 0, the border pixels are repeated for the filters that
shrink images, and `canonicalize` makes them white.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Bool, Float, UInt8
from ganavatar_jax.data import data_config, records
from ganavatar_jax.data.formats import conventions
from ganavatar_jax.geometry import triangulation

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels
# Crops smaller than this show no head; the camera must be wrong.
_SMALLEST_PX = 8


def square(capture: records.Capture, config: data_config.DataConfig) -> records.Capture:
    """Makes all frames of a capture square.

    Args:
      capture: Frames in the head frame.
      config: `crop` says how: "none" insists on square images, "center" takes the largest centred
        square, "head" the square around the head of `crop_extent` world units; "auto" is "none"
        where all images are square of one size and "head" elsewhere.

    Returns:
      The capture with square frames and adapted intrinsics.

    Raises:
      DataFormatError: "none" and an image is not square, or the head is not in front of a camera.

    Source: ours; intrinsics under a crop as in CONVENTIONS.md.
    """
    mode = config.crop
    if mode == "auto":
        sizes = {frame.size for frame in capture.frames}
        mode = "none" if len(sizes) == 1 and all(w == h for w, h in sizes) else "head"
    if mode == "none":
        for frame in capture.frames:
            if frame.size[0] != frame.size[1]:
                raise errors.DataFormatError(
                    f"{capture.name}: frame {frame.frame_id} measures {frame.size[0]}x"
                    f"{frame.size[1]}, and data.crop=none needs square images. Use data.crop=head."
                )
        return capture
    if mode == "center":
        find: Callable[[records.FrameReference], Box] = _center_box
    else:
        find = functools.partial(_head_box, extent=config.crop_extent, name=capture.name)
    frames = tuple(crop(frame, find(frame)) for frame in capture.frames)
    resolution = min(frame.size[0] for frame in frames)
    return dataclasses.replace(capture, frames=frames, resolution=resolution)


def crop(frame: records.FrameReference, box: Box) -> records.FrameReference:
    """Cuts a box out of a frame.

    Args:
      frame: Any frame.
      box: Left, top, right and bottom, pixels; may reach beyond the image.

    Returns:
      The frame with the box's pixels and intrinsics.

    Source: conventions.crop_intrinsics.
    """
    label25 = frame.label25.copy()
    intrinsics = label25[16:].reshape(3, 3)
    cropped = conventions.crop_intrinsics(intrinsics, size=frame.size, box=box)
    label25[16:] = cropped.reshape(-1)
    left, top, right, bottom = box
    beyond = left < 0 or top < 0 or right > frame.size[0] or bottom > frame.size[1]
    beyond = beyond or frame.read_filmed is not None
    return dataclasses.replace(
        frame,
        label25=label25,
        size=(box[2] - box[0], box[3] - box[1]),
        read_pixels=functools.partial(_read_cropped, frame, box),
        read_filmed=functools.partial(_read_filmed, frame, box) if beyond else None,
    )


def _center_box(frame: records.FrameReference) -> Box:
    width, height = frame.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _head_box(frame: records.FrameReference, *, extent: float, name: str) -> Box:
    """Places the square around the head's centre, as large as the head is seen there."""
    cam2world = frame.label25[:16].reshape(1, 4, 4).astype(np.float64)
    intrinsics = frame.label25[16:].reshape(1, 3, 3).astype(np.float64)
    center, depth = triangulation.project(np.zeros((1, 3)), cam2world, intrinsics)
    width, height = frame.size
    side = 0
    if depth[0, 0] > 0:
        side = round(float(extent * intrinsics[0, 0, 0] * width / depth[0, 0]))
    middle = center[0, 0] * [width, height]
    outside = (middle < -side / 2) | (middle > np.array([width, height]) + side / 2)
    if side < _SMALLEST_PX or outside.any():
        raise errors.DataFormatError(
            f"{name}: frame {frame.frame_id}: the head's centre is not in this image by its "
            f"camera (crop of {side} pixels at {middle[0]:.0f}, {middle[1]:.0f}). Check data.align "
            "and the frame's camera."
        )
    left, top = np.rint(middle - side / 2).astype(int).tolist()
    return left, top, left + side, top + side


def _read_cropped(
    frame: records.FrameReference, box: Box
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"] | None]:
    image, alpha = frame.read_pixels()
    grid, inside = _place(frame.size, box)
    cut = None if alpha is None else np.where(inside, alpha[grid], 0).astype(np.uint8)
    return np.ascontiguousarray(image[grid]), cut


def _read_filmed(frame: records.FrameReference, box: Box) -> UInt8[np.ndarray, "h w"]:
    grid, inside = _place(frame.size, box)
    before = 255 if frame.read_filmed is None else frame.read_filmed()[grid]
    return np.where(inside, before, 0).astype(np.uint8)


def _place(
    size: tuple[int, int], box: Box
) -> tuple[tuple[np.ndarray, ...], Bool[np.ndarray, "h w"]]:
    """Finds the image's pixels nearest to those of a box, and which of these are in the image."""
    left, top, right, bottom = box
    rows, columns, (width, height) = np.arange(top, bottom), np.arange(left, right), size
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    return np.ix_(np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)), inside


def share_outside(
    alpha: UInt8[np.ndarray, "h w"], label25: Float[np.ndarray, " 25"], *, side: float
) -> float:
    """Measures how much of a head's silhouette the generator's cube cannot show.

    Args:
      alpha: Coverage, 0..255.
      label25: Camera of the image.
      side: Edge of the cube around the origin, world units.

    Returns:
      Share of covered pixels whose rays miss the cube, 0..1.

    Source: Kay and Kajiya 1986, slab method.
    """
    rows, columns = np.nonzero(alpha > 127)
    if not len(rows):
        return 0.0
    uv = (np.stack([columns, rows], axis=-1) + 0.5) / alpha.shape[::-1]
    cam2world = label25[:16].reshape(1, 4, 4).astype(np.float64)
    intrinsics = label25[16:].reshape(1, 3, 3)
    directions = triangulation.rays(uv[None], cam2world, intrinsics)[0]
    directions = np.where(np.abs(directions) < 1e-12, 1e-12, directions)
    bounds = np.array([-side / 2, side / 2])[:, None, None]
    crossings = (bounds - cam2world[0, :3, 3]) / directions
    near, far = crossings.min(axis=0).max(axis=1), crossings.max(axis=0).min(axis=1)
    return float((near > far).mean())
