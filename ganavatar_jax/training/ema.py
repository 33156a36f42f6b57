"""Exponential moving average of the generator."""

from typing import Any

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float


def ema_decay(
    *, batch_size: int, ema_kimg: float, current_images: float, rampup: float | None
) -> float:
    """Computes the weight of the old average in one iteration.

    Args:
      batch_size: Images an iteration.
      ema_kimg: Half-life of the average, thousands of images.
      current_images: Images shown so far.
      rampup: The half-life is at most this fraction of current_images; None means no limit.

    Returns:
      0.5 ** (batch / half-life in images).

    Source: Karras et al. 2020; EG3D reference behaviour.
    """
    half_life = ema_kimg * 1000.0
    if rampup is not None:
        half_life = min(half_life, current_images * rampup)
    return 0.5 ** (batch_size / max(half_life, 1e-8))


def update(
    average: dict[str, Any], current: dict[str, Any], decay: float | Float[Array, ""]
) -> dict[str, Any]:
    """Moves the averaged parameters towards the current ones; buffers are copied.

    A decay of 1 leaves the average's bits as they are, one of 0 copies the current ones.

    Args:
      average: Variables {"params", "buffers"} of the average.
      current: Variables of the trained network.
      decay: Weight of the old average.

    Returns:
      New averaged variables.

    Source: EG3D reference behaviour.
    """
    decay = jnp.asarray(decay, jnp.float32)

    def move(old: Array, new: Array) -> Array:
        moved = old + (1.0 - decay).astype(old.dtype) * (new - old)
        return jnp.where(decay == 1.0, old, jnp.where(decay == 0.0, new, moved))

    params = jax.tree.map(move, average["params"], current["params"])
    return {**jax.tree.map(jnp.asarray, current), "params": params}
