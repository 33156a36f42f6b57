"""Bilinear resizing with half-pixel centres, optionally antialiased by a triangle filter."""

import jax

from ganavatar_jax.core.arrays import Array, Float


def resize(
    x: Float[Array, "b h w c"], side: int, *, antialias: bool = True
) -> Float[Array, "b s s c"]:
    """Resizes square images to side x side.

    Args:
      x: Images, NHWC.
      side: New height and width, pixels.
      antialias: Whether the triangle filter widens when shrinking (PIL style).

    Returns:
      Resized images.

    Source: EG3D reference behaviour (antialiased bilinear interpolation, corners not aligned).
    """
    if x.shape[1] == side and x.shape[2] == side:
        return x
    shape = (x.shape[0], side, side, x.shape[3])
    return jax.image.resize(x, shape, method="linear", antialias=antialias)
