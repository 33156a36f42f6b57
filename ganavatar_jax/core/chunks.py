"""Runs a jitted function over many frames in chunks of one fixed size.

Frames are padded to a whole number of chunks by repeating the last one, so that the function
compiles once; what was computed for padding is thrown away.
"""

from collections.abc import Callable

import jax
import numpy as np

from ganavatar_jax.core.arrays import Int, PyTree


def map_in_chunks(function: Callable[[PyTree], PyTree], arrays: PyTree, *, chunk: int) -> PyTree:
    """Applies a batched function chunk by chunk and joins the results on the host.

    Args:
      function: Maps a tree of arrays with leading axis `chunk` to another such tree; jit it.
      arrays: Tree of NumPy arrays, or `image_sequences.Images`, with one common leading axis f.
      chunk: Frames per call; capped at f.

    Returns:
      The function's tree as NumPy arrays with leading axis f.

    Raises:
      ValueError: there are no frames, leading axes differ, or chunk is below 1.
    """
    counts = {leaf.shape[0] for leaf in jax.tree.leaves(arrays)}
    if len(counts) != 1 or 0 in counts or chunk < 1:
        raise ValueError(
            f"chunks need arrays with one common, non-zero leading axis and chunk >= 1; got "
            f"lengths {sorted(counts)} and {chunk=}."
        )
    (count,) = counts
    chunk = min(chunk, count)
    results: PyTree = None
    for start in range(0, count, chunk):
        indices = np.minimum(np.arange(start, start + chunk), count - 1)
        part = jax.device_get(function(_take(arrays, indices)))
        if results is None:  # joined in place: a list of parts would take the memory twice
            results = jax.tree.map(lambda p: np.empty((count, *p.shape[1:]), p.dtype), part)
        for whole, piece in zip(jax.tree.leaves(results), jax.tree.leaves(part), strict=True):
            whole[start : start + chunk] = piece[: count - start]
    return results


def _take(arrays: PyTree, indices: Int[np.ndarray, " n"]) -> PyTree:
    return jax.tree.map(lambda array: array[indices], arrays)
