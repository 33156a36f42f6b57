"""Does the installed JAX compute right? One known answer, computed once a process.

jaxlib 0.10.2 on CPUs fuses a batched matrix-vector product with the reduction that follows it, and
reads wrong rows beyond the 32,768th (jax-ml/jax#39103): no exception, only numbers that are off.
Our requirements leave it out, but an image with JAX in it, or an installation without
dependencies, may hold it all the same. What is compared is the answer, not the version, so that
neither a mended build is refused nor another broken one let through.
"""

import functools
import importlib.metadata

import numpy as np

from ganavatar_jax.core import errors

# Turns the fusion off; to be set before Python starts, as XLA reads it once.
SAFE_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-reduce"
_ROWS = 32_769  # the fewest that show it
_PERIOD = 251  # whole numbers below 256 are exact in any precision


def require_right_sums() -> None:
    """Refuses a JAX that computes wrong; takes milliseconds, once.

    Raises:
      BackendError: a sum with a known answer came out wrong on the default device.

    Source: jax-ml/jax#39103.
    """
    wrong = _find_wrong_row()
    if wrong is None:
        return
    row, expected, got = wrong
    version = importlib.metadata.version("jaxlib")
    raise errors.BackendError(
        f"jaxlib {version} computes wrong on this machine (row {row} of a known sum: "
        f"expected {expected:g}; got {got:g}). Install another, "
        f'pip install "jax>=0.10.1,!=0.10.2,!=0.11.0,<0.13", or set XLA_FLAGS={SAFE_FLAG} and '
        "start Python anew."
    )


@functools.cache
def _find_wrong_row() -> tuple[int, float, float] | None:
    """Returns the first wrong row, its true and its computed value."""
    first = np.arange(_ROWS, dtype=np.float32) % _PERIOD
    rows = np.stack([first, 0 * first, 0 * first], axis=1)
    expected, got = np.square(first), _sum_squares(rows)
    wrong = np.flatnonzero(got != expected)
    if not len(wrong):
        return None
    return int(wrong[0]), float(expected[wrong[0]]), float(got[wrong[0]])


def _sum_squares(rows: np.ndarray) -> np.ndarray:
    """Sums the squares of each row as JAX computes them, through a product with the identity."""
    import jax
    import jax.numpy as jnp

    identity = np.eye(3, dtype=np.float32)
    return np.asarray(jax.jit(jax.vmap(lambda row: jnp.sum(jnp.square(identity @ row))))(rows))
