"""Minibatch standard deviation: one extra channel that tells how varied a batch is."""

import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float


def minibatch_stddev(x: Float[Array, "b h w c"], *, group_size: int) -> Float[Array, "b h w c1"]:
    """Appends the mean standard deviation over groups of samples as a last channel.

    Args:
      x: Features.
      group_size: Samples a group, at most; member k of group m is sample k * (b / g) + m, i.e.
        members are strided, not consecutive.

    Returns:
      Features with one more channel.

    Raises:
      ValueError: the batch cannot be split into groups of that size.

    Source: Karras et al. 2018, section 3; EG3D reference behaviour (biased variance, epsilon 1e-8).
    """
    batch, height, width, channels = x.shape
    size = min(group_size, batch)
    if batch % size:
        raise ValueError(
            f"minibatch stddev needs a batch divisible by its group size {size}; got {batch}. "
            f"Change the batch size or mbstd_group_size."
        )
    groups = x.reshape(size, batch // size, height, width, channels)
    centred = groups - jnp.mean(groups, axis=0, keepdims=True)
    deviation = jnp.sqrt(jnp.mean(jnp.square(centred), axis=0) + 1e-8)
    value = jnp.mean(deviation, axis=(1, 2, 3))
    channel = jnp.broadcast_to(
        jnp.tile(value, size)[:, None, None, None], (batch, height, width, 1)
    ).astype(x.dtype)
    return jnp.concatenate([x, channel], axis=-1)
