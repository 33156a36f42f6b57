"""R1 penalty on both inputs of the dual discriminator."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float


def r1_penalty(
    logits_fn: Callable[[Array, Array], Array],
    image: Float[Array, "b h w 3"],
    image_raw: Float[Array, "b r r 3"],
) -> Float[Array, " b"]:
    """Computes the squared norm of the gradient of each real sample's logit.

    Args:
      logits_fn: Maps (image, image_raw) to logits [b 1].
      image: Real images, [-1, 1].
      image_raw: Their low-resolution copies, taken as independent inputs.

    Returns:
      Sum of squares over both gradients; the loss is gamma / 2 times its mean.

    Source: Mescheder et al. 2018; EG3D phase Dreg (dual sum).
    """

    def total(pair: tuple[Array, Array]) -> Array:
        return jnp.sum(logits_fn(*pair))

    gradients = jax.grad(total)((image, image_raw))
    squares = [jnp.sum(jnp.square(g), axis=(1, 2, 3)) for g in gradients]
    return squares[0] + squares[1]
