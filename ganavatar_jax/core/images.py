"""Image value ranges and grids.

`image` is float32 in [-1, 1] (not clamped), `image_u8` is uint8 0..255, both NHWC or HWC.
Training data maps by u8 / 127.5 - 1; network outputs become u8 by truncation of x * 127.5 + 128
(the reference's convention, up to one level away from rounding). Source: spec of EG3D, sections
8.2, 10.1 and 11.2.
"""

import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core.arrays import Array, Float, UInt8


def from_u8(image_u8: UInt8[Array | np.ndarray, "*b h w c"]) -> Float[Array, "*b h w c"]:
    """Maps 0..255 to [-1, 1] as float32.

    Args:
      image_u8: Integer image, 0..255.

    Returns:
      image_u8 / 127.5 - 1.

    Source: EG3D training loop (u8 / 127.5 - 1).
    """
    return jnp.asarray(image_u8, jnp.float32) / 127.5 - 1.0


def to_u8(image: Float[Array | np.ndarray, "*b h w c"]) -> UInt8[np.ndarray, "*b h w c"]:
    """Maps [-1, 1] to 0..255 on the host: clamp, then truncate x * 127.5 + 128.

    Args:
      image: Image nominally in [-1, 1]; values outside are clamped.

    Returns:
      NumPy uint8 array of the same shape.

    Source: EG3D image generation scripts.
    """
    return np.clip(np.asarray(image, np.float32) * 127.5 + 128.0, 0.0, 255.0).astype(np.uint8)


def make_grid(
    images_u8: UInt8[np.ndarray, "f h w c"], *, columns: int, padding_px: int = 0, fill: int = 255
) -> UInt8[np.ndarray, "gh gw c"]:
    """Tiles images row by row into one picture.

    Args:
      images_u8: The images, 0..255.
      columns: Tiles in a row; a short last row is filled up.
      padding_px: Gap between tiles, pixels.
      fill: Grey level of gaps and empty tiles, 0..255.

    Returns:
      The picture as uint8.

    Raises:
      ValueError: columns is not positive or there is no image.
    """
    count, height, width, channels = images_u8.shape
    if columns < 1 or count < 1:
        raise ValueError(f"a grid needs images and columns >= 1; got {count} images, {columns=}.")
    rows = -(-count // columns)
    step_h, step_w = height + padding_px, width + padding_px
    grid = np.full(
        (rows * step_h - padding_px, columns * step_w - padding_px, channels), fill, np.uint8
    )
    for index, image in enumerate(images_u8):
        top, left = (index // columns) * step_h, (index % columns) * step_w
        grid[top : top + height, left : left + width] = image
    return grid
