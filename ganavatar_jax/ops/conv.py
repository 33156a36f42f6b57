"""Convolutions with optional resampling, weights HWIO, NHWC images.

Up-sampling by two is a stride-2 transposed convolution followed by the FIR filter; it is computed
by phase, because input dilation is slow under XLA on CPUs (nine times slower to train). Up to a
factor it is the transpose of FIR and stride-2 convolution, so each is the other's gradient, to any
order. Source: Karras et al. 2020 (StyleGAN2); the polyphase form is ours.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.ops import fir

_DIMS = ("NHWC", "HWIO", "NHWC")
_Pads = tuple[tuple[int, int], tuple[int, int]]
_NO_PADS: _Pads = ((0, 0), (0, 0))


def _native(x: Array, weight: Array, stride: int, pads: _Pads) -> Array:
    return jax.lax.conv_general_dilated(
        x, weight.astype(x.dtype), (stride, stride), pads, dimension_numbers=_DIMS
    )


def conv2d(x: Float[Array, "b h w i"], weight: Float[Array, "k k i o"]) -> Float[Array, "b h w o"]:
    """Cross-correlates with zero padding, size unchanged.

    Args:
      x: Images.
      weight: Kernel, 1x1 or 3x3, HWIO.

    Returns:
      Images with o channels.

    Source: EG3D reference behaviour (plain convolution).
    """
    size = weight.shape[0]
    if size == 1:
        # As one matrix: the weight's gradient is then a plain product, five times as fast on CPUs.
        flat = jnp.matmul(x.reshape(-1, x.shape[-1]), weight[0, 0].astype(x.dtype))
        return flat.reshape(*x.shape[:3], -1)
    pad = size // 2
    return _native(x, weight, 1, ((pad, pad), (pad, pad)))


def conv2d_up2(
    x: Float[Array, "b h w i"], weight: Float[Array, "3 3 i o"]
) -> Float[Array, "b h2 w2 o"]:
    """Doubles the size: transposed convolution with stride 2, then FIR with gain 4.

    Args:
      x: Images.
      weight: Kernel, HWIO, used as stored (not flipped): Y[2i+a, 2j+b] += x[i, j] w[a, b].

    Returns:
      Images of twice the height and width, o channels.

    Source: EG3D reference behaviour (up-sampling convolution).
    """
    result: Any = _up(x, weight)  # custom_vjp types its result as an object
    return result


def conv2d_down2(
    x: Float[Array, "b h w i"], weight: Float[Array, "k k i o"]
) -> Float[Array, "b h2 w2 o"]:
    """Halves the size: FIR, then a stride-2 convolution (1x1 or 3x3).

    Args:
      x: Images of even height and width.
      weight: Kernel, HWIO.

    Returns:
      Images of half the height and width, o channels.

    Source: EG3D reference behaviour (down-sampling convolution).
    """
    if weight.shape[0] == 1:
        return conv2d(fir.downsample_2x(x), weight)
    result: Any = _down(x, weight)
    return result


@jax.custom_vjp
def _up(x: Array, weight: Array) -> Array:
    """Convolves by phase, and filters the phases while they are merged.

    Phase "even" of the transposed convolution mixes w[2] of the sample before and w[0] of the
    sample itself; phase "odd" is w[1] alone.
    """
    taps = {"even": slice(None, None, -2), "odd": slice(1, 2)}
    pads = {"even": (1, 1), "odd": (0, 0)}
    rows = []
    for row in ("even", "odd"):
        columns = [
            _native(x, weight[taps[row], taps[column]], 1, (pads[row], pads[column]))
            for column in ("even", "odd")
        ]
        rows.append(fir.merge_phases(columns[0], columns[1], axis=2))
    return fir.merge_phases(rows[0], rows[1], axis=1)


@jax.custom_vjp
def _down(x: Array, weight: Array) -> Array:
    """Filters and convolves with stride 2; four times this is the transpose of `_up`."""
    return _native(fir.smooth_padded(x), weight, 2, _NO_PADS)


@jax.custom_vjp
def _relate(small: Array, large: Array) -> Array:
    """Sums products of an image and a filtered one of twice its size, tap by tap: [3, 3, s, l].

    This is the gradient of either weight. On CPUs it is one matrix product: XLA's own gradient of
    strided kernels is up to twenty times slower there than the forward pass.
    """
    height, width, channels = small.shape[1:]
    sizes = (3, 3, channels, large.shape[-1])

    def by_product(small: Array, filtered: Array) -> Array:
        taps = [
            filtered[:, a : a + 2 * height - 1 : 2, b : b + 2 * width - 1 : 2]
            for a in range(3)
            for b in range(3)
        ]
        patches = jnp.concatenate(taps, axis=-1).reshape(-1, 9 * sizes[3])
        product = jnp.matmul(small.reshape(-1, channels).T, patches)
        return jnp.moveaxis(product.reshape(channels, 3, 3, sizes[3]), 0, 2)

    def by_library(small: Array, filtered: Array) -> Array:
        kernel = jax.ShapeDtypeStruct((3, 3, sizes[3], channels), small.dtype)
        transposed = jax.linear_transpose(lambda k: _native(filtered, k, 2, _NO_PADS), kernel)
        return jnp.swapaxes(transposed(small)[0], 2, 3)

    filtered = fir.smooth_padded(large)
    return jax.lax.platform_dependent(small, filtered, cpu=by_product, default=by_library)


def _up_backward(residual: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, weight = residual
    for_x: Any = _down(cotangent, 4.0 * jnp.swapaxes(weight, 2, 3))
    for_weight: Any = _relate(x, cotangent)
    return for_x, 4.0 * for_weight.astype(weight.dtype)


def _down_backward(residual: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, weight = residual
    for_x: Any = _up(cotangent, 0.25 * jnp.swapaxes(weight, 2, 3))
    for_weight: Any = _relate(cotangent, x)
    return for_x, jnp.swapaxes(for_weight, 2, 3).astype(weight.dtype)


def _relate_backward(residual: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    small, large = residual
    for_small: Any = _down(large, jnp.swapaxes(cotangent, 2, 3))
    for_large: Any = _up(small, 0.25 * cotangent)
    return for_small, for_large


_up.defvjp(lambda x, weight: (_up(x, weight), (x, weight)), _up_backward)
_down.defvjp(lambda x, weight: (_down(x, weight), (x, weight)), _down_backward)
_relate.defvjp(lambda small, large: (_relate(small, large), (small, large)), _relate_backward)
