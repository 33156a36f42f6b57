"""Convolutions with optional resampling, weights HWIO, NHWC images.

Up-sampling by two is a stride-2 transposed convolution followed by the FIR filter; it is computed
by phase, because input dilation is slow under XLA on CPUs (nine times slower to train). Source:
Karras et al. 2020 (StyleGAN2); the polyphase form is ours.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.ops import fir

_DIMS = ("NHWC", "HWIO", "NHWC")
_Pads = tuple[tuple[int, int], tuple[int, int]]


def _native(x: Array, weight: Array, stride: int, pads: _Pads) -> Array:
    return jax.lax.conv_general_dilated(
        x, weight.astype(x.dtype), (stride, stride), pads, dimension_numbers=_DIMS
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _correlate(x: Array, weight: Array, stride: int, pads: _Pads) -> Array:
    """Cross-correlates; on CPUs the weight gradient is one matrix product a tap.

    XLA's own weight gradient of strided and of even-sized kernels is up to twenty times slower
    than the forward pass on CPUs; that of plain 3x3 kernels is fine and does not come here.
    """
    return _native(x, weight, stride, pads)


def _correlate_forward(
    x: Array, weight: Array, stride: int, pads: _Pads
) -> tuple[Array, tuple[Array, Array]]:
    return _correlate(x, weight, stride, pads), (x, weight)


def _correlate_backward(
    stride: int, pads: _Pads, residual: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    """Sums the weight's gradient tap by tap on CPUs; elsewhere the library's own form does."""
    x, weight = residual
    (dx,) = jax.vjp(lambda a: _native(a, weight, stride, pads), x)[1](cotangent)

    def by_taps(x: Array, cotangent: Array) -> Array:
        rows, columns = cotangent.shape[1:3]
        padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        taps = [
            jnp.einsum(
                "bhwi,bhwo->io",
                padded[
                    :,
                    a : a + stride * (rows - 1) + 1 : stride,
                    b : b + stride * (columns - 1) + 1 : stride,
                ],
                cotangent,
            )
            for a in range(weight.shape[0])
            for b in range(weight.shape[1])
        ]
        return jnp.stack(taps).reshape(weight.shape).astype(weight.dtype)

    def by_library(x: Array, cotangent: Array) -> Array:
        return jax.vjp(lambda a: _native(x, a, stride, pads), weight)[1](cotangent)[0]

    dw = jax.lax.platform_dependent(x, cotangent, cpu=by_taps, default=by_library)
    return dx, dw


_correlate.defvjp(_correlate_forward, _correlate_backward)


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
        return jnp.matmul(x, weight[0, 0].astype(x.dtype))
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
    # Phase "even" of the transposed convolution mixes w[2] of the sample before and w[0] of the
    # sample itself; phase "odd" is w[1] alone.
    taps = {"even": slice(None, None, -2), "odd": slice(1, 2)}
    pads = {"even": (1, 1), "odd": (0, 0)}
    rows = []
    for row in ("even", "odd"):
        columns: list[Any] = [  # custom_vjp types its result as an object
            _correlate(x, weight[taps[row], taps[column]], 1, (pads[row], pads[column]))
            for column in ("even", "odd")
        ]
        rows.append(fir.merge_phases(columns[0], columns[1], axis=2))
    return fir.merge_phases(rows[0], rows[1], axis=1)


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
    return _correlate(fir.smooth_padded(x), weight, 2, ((0, 0), (0, 0)))
