"""Bilinear lookup in feature planes, zero outside, texel centres at half integers."""

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float

_WINDOW = jax.lax.GatherDimensionNumbers(
    offset_dims=(2, 3, 4),
    collapsed_slice_dims=(),
    start_index_map=(1, 2),
    operand_batching_dims=(0,),
    start_indices_batching_dims=(0,),
)


def sample_planes(
    planes: Float[Array, "k h w c"], coordinates: Float[Array, "k n 2"]
) -> Float[Array, "k n c"]:
    """Looks features up at normalised coordinates.

    Args:
      planes: Feature maps.
      coordinates: (u, v) in [-1, 1] across the map; u runs along columns, v along rows. Points
        more than half a texel outside give zero.

    Returns:
      Interpolated features.

    Source: EG3D, section 4.1; the window form of the gather is ours (one 2 x 2 window a point).
    """
    height, width = planes.shape[1:3]
    # Position in the map padded by one texel of zeros. Clipping to the padded border makes every
    # outside point read zeros, with no mask.
    px = jnp.clip(((coordinates[..., 0] + 1.0) * width - 1.0) / 2.0, -1.0, width) + 1.0
    py = jnp.clip(((coordinates[..., 1] + 1.0) * height - 1.0) / 2.0, -1.0, height) + 1.0
    left = jnp.clip(jnp.floor(px), 0.0, width)
    top = jnp.clip(jnp.floor(py), 0.0, height)
    fx, fy = (px - left)[..., None], (py - top)[..., None]
    padded = jnp.pad(planes, ((0, 0), (1, 1), (1, 1), (0, 0)))
    start = jax.lax.stop_gradient(jnp.stack([top, left], axis=-1).astype(jnp.int32))
    # Windows: [k, n, 2, 2, c].
    window = jax.lax.gather(
        padded,
        start,
        _WINDOW,
        slice_sizes=(1, 2, 2, planes.shape[3]),
        mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
    upper = window[:, :, 0, 0] * (1.0 - fx) + window[:, :, 0, 1] * fx
    lower = window[:, :, 1, 0] * (1.0 - fx) + window[:, :, 1, 1] * fx
    return upper * (1.0 - fy) + lower * fy
