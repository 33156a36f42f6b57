"""Cuts the points of images into blocks, so that what is computed on the way stays in the cache.

What a block leaves behind is computed again in the backward pass: memory then grows with what goes
in and what comes out, not with what lies between.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float, PyTree

# Points handled at a time, of all images together. A block's arrays fit a CPU core's own cache;
# an accelerator wants all the work at once that its memory can hold.
CPU_POINTS = 8192
DEVICE_POINTS = 2**20


def split(x: Float[Array, "b n *s"], points: int) -> Float[Array, "k b m *s"]:
    """Cuts the second axis into blocks of equal length.

    Args:
      x: What each point has.
      points: Points of a block, of all images together, at most (one an image at least).

    Returns:
      The blocks, the last one filled up with zeros.
    """
    batch, count = x.shape[:2]
    blocks = -(-count * batch // max(points, batch))
    size = -(-count // blocks)
    filled = jnp.pad(x, [(0, 0), (0, blocks * size - count)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(filled.reshape(batch, blocks, size, *x.shape[2:]), 1, 0)


def join(blocks: Float[Array, "k b m *s"], count: int) -> Float[Array, "b n *s"]:
    """Puts blocks together again; the inverse of `split`.

    Args:
      blocks: The blocks.
      count: Points an image; the rest filled up.

    Returns:
      What each point has.
    """
    whole = jnp.moveaxis(blocks, 0, 1)
    return whole.reshape(whole.shape[0], -1, *whole.shape[3:])[:, :count]


def map_points(function: Callable[[Array], PyTree], x: Float[Array, "b n c"]) -> PyTree:
    """Applies a function that treats every point alike, block by block.

    Args:
      function: Maps [m c] to a tree of arrays [m ...].
      x: What each point has.

    Returns:
      The tree for all points, [b n ...].
    """

    def run(x: Array, *, points: int) -> PyTree:
        done = jax.lax.map(jax.checkpoint(apply), split(x, points))
        return jax.tree.map(functools.partial(join, count=x.shape[1]), done)

    def apply(block: Array) -> PyTree:
        # As one matrix: gradients of weights are then plain products, without a transposed copy.
        results = function(block.reshape(-1, block.shape[-1]))
        return jax.tree.map(lambda a: a.reshape(*block.shape[:2], *a.shape[1:]), results)

    def run_here(x: Array) -> PyTree:
        return jax.lax.platform_dependent(
            x,
            cpu=functools.partial(run, points=CPU_POINTS),
            default=functools.partial(run, points=DEVICE_POINTS),
        )

    # The blocks of one platform are not to wait for the backward pass of the other's.
    return jax.checkpoint(run_here)(x)
