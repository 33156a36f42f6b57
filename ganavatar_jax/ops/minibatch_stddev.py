"""Minibatch standard deviation: one extra channel that tells how varied a batch is."""

import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float


def minibatch_stddev(
    x: Float[Array, "b h w c"], *, group_size: int, block_size: int = 0
) -> Float[Array, "b h w c1"]:
    """Appends the mean standard deviation over groups of samples as a last channel.

    Args:
      x: Features.
      group_size: Samples a group, at most; member k of group m of a block is its sample
        k * (block / g) + m, i.e. members are strided, not consecutive.
      block_size: Consecutive samples that groups stay within; 0 is the whole batch. A block that
        fits on one device makes the result independent of the number of devices.

    Returns:
      Features with one more channel.

    Raises:
      ValueError: the batch cannot be split into such blocks or groups.

    Source: Karras et al. 2018, section 3; EG3D reference behaviour (biased variance, epsilon 1e-8),
    where a block is what one GPU holds.
    """
    batch, height, width, channels = x.shape
    block = block_size or batch
    size = min(group_size, block)
    if batch % block or block % size:
        raise ValueError(
            f"minibatch stddev needs a batch divisible by its block of {block} samples and blocks "
            f"divisible by the group size {size}; got a batch of {batch}. Change the batch size, "
            f"mbstd_block_size or mbstd_group_size."
        )
    # [blocks, members, groups, h, w, c]
    groups = x.reshape(batch // block, size, block // size, height, width, channels)
    centred = groups - jnp.mean(groups, axis=1, keepdims=True)
    deviation = jnp.sqrt(jnp.mean(jnp.square(centred), axis=1) + 1e-8)
    value = jnp.mean(deviation, axis=(2, 3, 4))
    per_sample = jnp.repeat(value[:, None], size, axis=1).reshape(batch)
    channel = jnp.broadcast_to(per_sample[:, None, None, None], (batch, height, width, 1))
    return jnp.concatenate([x, channel.astype(x.dtype)], axis=-1)
