"""Bilinear lookup in feature planes, zero outside, texel centres at half integers."""

import functools

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.ops import blocks


def sample_planes(
    planes: Float[Array, "b p h w c"], coordinates: Float[Array, "b p n 2"]
) -> Float[Array, "b n c"]:
    """Looks points up in every plane of their image and sums what they find.

    Args:
      planes: Feature maps.
      coordinates: (u, v) in [-1, 1] across the map, for each plane; u runs along columns, v along
        rows. Points more than half a texel outside give zero.

    Returns:
      Interpolated features, summed over planes.

    Source: EG3D, section 4.1.
    """
    height, width = planes.shape[2:4]
    sides = jnp.array([width, height], coordinates.dtype).reshape(1, 1, 1, 2)
    # From a whole texel outside on every texel around a point is outside: clipping is no change.
    position = jnp.clip(((coordinates + 1.0) * sides - 1.0) / 2.0, -1.0, sides)
    return _interpolate(planes, position)


@jax.custom_vjp
def _interpolate(planes: Array, position: Array) -> Array:
    """Sums the four texels around each position, weighted, over all planes."""
    total = position.shape[0] * position.shape[2]
    return jax.lax.platform_dependent(
        planes,
        position,
        # A loop's inputs are in memory, whereas XLA on CPUs would else compute a texel anew, from
        # what the planes are made of, at each of its readings: two blocks at least.
        cpu=functools.partial(_collect, points=min(blocks.CPU_POINTS, -(-total // 2))),
        default=functools.partial(_collect, points=blocks.DEVICE_POINTS),
    )


def _collect(planes: Array, position: Array, *, points: int) -> Array:
    """Interpolates block by block.

    Rows of a matrix are read one by one, so that XLA fuses reading, weighing and summing and writes
    the sum alone.
    """
    flat, shape = _flatten(planes), planes.shape

    def read(position: Array) -> Array:
        index, weight = _find_texels(position, shape), _weigh_texels(position, shape)
        parts = [
            _take(flat, index[:, plane, :, corner]) * weight[:, plane, :, corner, None]
            for plane in range(shape[1])
            for corner in range(4)
        ]
        return functools.reduce(jnp.add, parts)

    found = jax.lax.map(read, _split_points(position, points))
    return blocks.join(found, position.shape[2])


def _split_points(position: Array, points: int) -> Array:
    """Cuts positions [b p n 2] into blocks of points [k b p m 2]."""
    return jnp.moveaxis(blocks.split(jnp.moveaxis(position, 1, 2), points), 3, 2)


def _flatten(planes: Array) -> Array:
    return planes.reshape(planes.shape[0], -1, planes.shape[-1])


def _take(rows: Array, index: Array) -> Array:
    """Reads rows [b r c] at [b n], which are known to exist."""
    return jnp.take_along_axis(rows, index[..., None], axis=1, mode="promise_in_bounds")


def _find_texels(position: Array, shape: tuple[int, ...]) -> Array:
    """Numbers the four texels around each position [b p n 4], as rows of the flat planes."""
    _, count, height, width, _ = shape
    low = jnp.floor(position).astype(jnp.int32)
    columns = [jnp.clip(low[..., 0] + step, 0, width - 1) for step in (0, 1)]
    rows = [jnp.clip(low[..., 1] + step, 0, height - 1) for step in (0, 1)]
    first = (jnp.arange(count, dtype=jnp.int32) * (height * width)).reshape(1, count, 1, 1)
    return first + jnp.stack([row * width + column for row in rows for column in columns], axis=-1)


def _weigh_texels(position: Array, shape: tuple[int, ...]) -> Array:
    """Computes the weights of these texels, zero outside of the plane; differentiable."""
    height, width = shape[2:4]
    low = jnp.floor(position)

    def weigh(axis: int, side: int) -> list[Array]:
        first, share = low[..., axis], position[..., axis] - low[..., axis]
        inside = [(first + step >= 0.0) & (first + step <= side - 1.0) for step in (0.0, 1.0)]
        return [jnp.where(inside[0], 1.0 - share, 0.0), jnp.where(inside[1], share, 0.0)]

    columns, rows = weigh(0, width), weigh(1, height)
    return jnp.stack([row * column for row in rows for column in columns], axis=-1)


def _interpolate_forward(planes: Array, position: Array) -> tuple[Array, tuple[Array, Array]]:
    return _interpolate(planes, position), (planes, position)


def _interpolate_backward(residual: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    """Adds each point's gradient to its texels, and tells the slope at the point."""
    planes, position = residual
    shape = planes.shape
    spread = functools.partial(_spread, shape=shape)
    for_planes = jax.lax.platform_dependent(
        position,
        cotangent,
        cpu=functools.partial(spread, points=blocks.CPU_POINTS),
        default=functools.partial(spread, points=blocks.DEVICE_POINTS),
    )
    # Not computed where nobody asks for the gradient of the points.
    flat, index = _flatten(planes), _find_texels(position, shape)
    slopes = [
        [jnp.sum(_take(flat, index[:, p, :, corner]) * cotangent, axis=-1) for corner in range(4)]
        for p in range(shape[1])
    ]
    along = jnp.stack([jnp.stack(slope, axis=-1) for slope in slopes], axis=1)
    _, weigh_back = jax.vjp(lambda position: _weigh_texels(position, shape), position)
    return for_planes, weigh_back(along)[0]


def _spread(position: Array, cotangent: Array, *, shape: tuple[int, ...], points: int) -> Array:
    """Transposes the interpolation block by block: a block's shares stay in the cache."""

    def add_block(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        position, cotangent = block
        index, weight = _find_texels(position, shape), _weigh_texels(position, shape)
        for plane in range(shape[1]):
            for corner in range(4):
                share = cotangent * weight[:, plane, :, corner, None]
                total = add(total, index[:, plane, :, corner], share)
        return total, None

    add = jax.vmap(lambda rows, index, share: rows.at[index].add(share, mode="promise_in_bounds"))
    batch, count, height, width, channels = shape
    empty = jnp.zeros((batch, count * height * width, channels), cotangent.dtype)
    # Points filled up have no gradient, so it does not matter where they lie.
    cut = _split_points(position, points), blocks.split(cotangent, points)
    return jax.lax.scan(add_block, empty, cut)[0].reshape(shape)


_interpolate.defvjp(_interpolate_forward, _interpolate_backward)
