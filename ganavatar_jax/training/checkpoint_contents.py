"""What lies in a checkpoint: names, checksums and copies of its arrays, and its texts."""

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core.arrays import PyTree


def named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """Lists the arrays of a tree.

    Args:
      tree: Any pytree.

    Returns:
      Dotted names and leaves.
    """
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def copy_to_host(state: PyTree) -> PyTree:
    """Copies a state, so that the original may be donated.

    Args:
      state: Pytree of whole arrays.

    Returns:
      NumPy arrays; random keys stay JAX's.
    """
    return jax.tree.map(lambda x: jnp.copy(x) if _is_key(x) else np.array(_local(x)), state)


def checksums(state: PyTree) -> dict[str, int]:
    """Computes what the storage does not: it notices cut files but not changed bytes.

    Args:
      state: Pytree of whole arrays.

    Returns:
      Dotted name -> CRC-32 of the bytes.
    """
    return {
        name: zlib.crc32(np.asarray(jax.random.key_data(x) if _is_key(x) else x).tobytes())
        for name, x in named_leaves(state)
    }


def find_not_finite(state: PyTree) -> list[str]:
    """Looks for arrays that hold NaN or infinity; they are looked at where they are.

    Args:
      state: Pytree of whole arrays.

    Returns:
      Their dotted names.
    """
    leaves = {
        name: _local(leaf)
        for name, leaf in named_leaves(state)
        if jax.dtypes.issubdtype(leaf.dtype, np.inexact)
    }
    # On CPUs NumPy sees the same memory: the program of a thousand arrays would cost seconds.
    elsewhere = jax.default_backend() != "cpu"
    if not leaves or (elsewhere and bool(_all_finite(list(leaves.values())))):
        return []
    return [name for name, leaf in leaves.items() if not np.isfinite(np.asarray(leaf)).all()]


@jax.jit
def _all_finite(leaves: list[Any]) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def text_checksum(data: Mapping[str, Any], meta: Mapping[str, Any]) -> int:
    """Computes the checksum of the texts beside the state.

    Args:
      data: Position of the data pipeline as it is stored.
      meta: Facts.

    Returns:
      CRC-32 of both as JSON.
    """
    text = json.dumps(json.loads(json.dumps([data, dict(meta)])), sort_keys=True)
    return zlib.crc32(text.encode())


def describe(tree: PyTree) -> dict[str, Any]:
    """Gives shapes and dtypes by name; random keys are stored as their words.

    Args:
      tree: Pytree of arrays or of their shapes.

    Returns:
      Dotted name -> shape and dtype.
    """
    return {
        name: jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        for name, leaf in named_leaves(tree)
    }


def encode(data_state: bytes | Mapping[str, Any]) -> dict[str, Any]:
    """Puts the position of a data pipeline into JSON values.

    Args:
      data_state: Bytes, or JSON values.

    Returns:
      What `decode` reads.
    """
    if isinstance(data_state, bytes):
        return {"base64": base64.b64encode(data_state).decode()}
    return {"json": dict(data_state)}


def decode(stored: Mapping[str, Any]) -> bytes | dict[str, Any]:
    """Reads what `encode` made.

    Args:
      stored: JSON values.

    Returns:
      The position as it was given.
    """
    return base64.b64decode(stored["base64"]) if "base64" in stored else stored["json"]


def _local(leaf: Any) -> Any:
    """This process's copy of an array that every device holds whole."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return leaf.addressable_data(0)
    return leaf


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
