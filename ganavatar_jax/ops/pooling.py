"""Max pooling with stride 2, with a gradient that is quick on CPUs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.ops import fir


def max_pool_axis(x: Float[Array, "*s"], *, axis: int, window: int) -> Float[Array, "*s2"]:
    """Takes the maximum of each window along an axis; windows start at every second sample.

    Pooling along columns, then along rows, is pooling over squares. The gradient goes to the first
    of equal samples, as with the library's pooling over squares in this order.

    Args:
      x: Any array.
      axis: The axis (not negative).
      window: Samples of a window, 2 or 3.

    Returns:
      One maximum for each window that lies inside.
    """
    result: Any = _pool(x, axis, window)  # custom_vjp types its result as an object
    return result


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _pool(x: Array, axis: int, window: int) -> Array:
    return functools.reduce(jnp.maximum, _cut(x, axis, window))


def _cut(x: Array, axis: int, window: int) -> list[Array]:
    """Lists the samples of all windows by their place in the window."""
    count = (x.shape[axis] - window) // 2 + 1
    return [
        jax.lax.slice_in_dim(x, k, k + 2 * count - 1, stride=2, axis=axis) for k in range(window)
    ]


def _pool_forward(x: Array, axis: int, window: int) -> tuple[Array, tuple[Array, Array]]:
    result: Any = _pool(x, axis, window)
    return result, (x, result)


def _pool_backward(
    axis: int, window: int, residual: tuple[Array, Array], cotangent: Array
) -> tuple[Array]:
    """Hands each window's gradient to its first maximum; even and odd samples are merged."""
    x, result = residual
    open_still = jnp.ones(result.shape, bool)
    parts = []
    for sample in _cut(x, axis, window):
        hit = open_still & (sample == result)
        parts.append(jnp.where(hit, cotangent, 0.0))
        open_still = open_still & ~hit
    length = -(-x.shape[axis] // 2)

    def place(part: Array, before: int) -> Array:
        pads = [(0, 0)] * x.ndim
        pads[axis] = (before, length - before - part.shape[axis])
        return jnp.pad(part, pads)

    even = place(parts[0], 0) + (place(parts[2], 1) if window == 3 else 0.0)
    merged = fir.interleave(even, place(parts[1], 0), axis)
    return (jax.lax.slice_in_dim(merged, 0, x.shape[axis], axis=axis),)


_pool.defvjp(_pool_forward, _pool_backward)
