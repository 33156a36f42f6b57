"""Named random streams: adding a stream never shifts the draws of another.

Every random draw of a run comes from `stream(root, name, step)`. Per-sample keys are folded from
global sample ids, so that results do not depend on how a batch is spread over devices.
"""

import zlib

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Int, Key, PRNGKeyArray


def stream(root: PRNGKeyArray, name: str, step: int | Int[Array, ""] = 0) -> PRNGKeyArray:
    """Derives the key of a named stream at a step.

    Args:
      root: Key of the run.
      name: Name of the stream, e.g. "stratified".
      step: Iteration, so that every step draws anew.

    Returns:
      A key that depends on all three and on nothing else.

    Source: ours, after the stream tables of kauldron.
    """
    return jax.random.fold_in(jax.random.fold_in(root, zlib.crc32(name.encode())), step)


def per_sample(key: PRNGKeyArray, ids: Int[Array, " b"]) -> Key[Array, " b"]:
    """Derives one key for each global sample id.

    Args:
      key: Key of the draw.
      ids: Global index of each sample within the whole (all-device) batch.

    Returns:
      Keys with shape [b].

    Source: ours; makes draws independent of the device layout.
    """
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.asarray(ids))
