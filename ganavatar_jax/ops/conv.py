"""Convolutions with optional resampling, weights HWIO, NHWC images.

Up-sampling by two is a stride-2 transposed convolution followed by the FIR filter; it is computed
by phase, because input dilation is slow under XLA on CPUs (nine times slower to train). Source:
Karras et al. 2020 (StyleGAN2); the polyphase form is ours.
"""

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float
from ganavatar_jax.ops import fir

_DIMS = ("NHWC", "HWIO", "NHWC")


def _correlate(x: Array, weight: Array, *, stride: int, pads: tuple[tuple[int, int], ...]) -> Array:
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
        return jnp.matmul(x, weight[0, 0].astype(x.dtype))
    pad = size // 2
    return _correlate(x, weight, stride=1, pads=((pad, pad), (pad, pad)))


def conv2d_up2(x: Float[Array, "b h w i"], weight: Float[Array, "3 3 i o"]) -> Float[Array, "b h2 w2 o"]:
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
        columns = [
            _correlate(
                x,
                weight[taps[row], taps[column]],
                stride=1,
                pads=(pads[row], pads[column]),
            )
            for column in ("even", "odd")
        ]
        rows.append(fir.merge_phases(columns[0], columns[1], axis=2))
    return fir.merge_phases(rows[0], rows[1], axis=1)


def conv2d_down2(x: Float[Array, "b h w i"], weight: Float[Array, "k k i o"]) -> Float[Array, "b h2 w2 o"]:
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
    return _correlate(fir.smooth_padded(x), weight, stride=2, pads=((0, 0), (0, 0)))
