"""Matrix products of numbers that say where things are: full float32 on every device.

By default an accelerator multiplies with fewer bits: bfloat16 on TPUs, TF32 on recent GPUs.
Networks can be trained so (`devices.matmul_precision` decides); a ray cannot be placed so, because
the eight or eleven leading bits of a direction end at whole pixels of a large image. Whatever
places cameras, rays, points or pixels multiplies with these two functions.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core.arrays import Array, Float

AnyArray = Array | np.ndarray


def matmul(first: Float[AnyArray, "..."], second: Float[AnyArray, "..."]) -> Float[Array, "..."]:
    """Multiplies matrices in full precision.

    Args:
      first: As jnp.matmul takes it.
      second: Likewise.

    Returns:
      first @ second.

    Source: after CamP's internal/math.py (Park et al. 2023), one place for the precision.
    """
    return jnp.matmul(first, second, precision=jax.lax.Precision.HIGHEST)


def einsum(subscripts: str, *operands: Float[AnyArray, "..."]) -> Float[Array, "..."]:
    """Sums products in full precision.

    Args:
      subscripts: As jnp.einsum takes them.
      *operands: Arrays.

    Returns:
      The sums.

    Source: after CamP's internal/math.py (Park et al. 2023), one place for the precision.
    """
    return jnp.einsum(subscripts, *operands, precision=jax.lax.Precision.HIGHEST)
