"""Resampling with the [1, 3, 3, 1] filter, as shifted adds along one axis at a time.

Depthwise convolutions of this size are many times slower than adds under XLA on CPUs (forward and
backward), and no faster elsewhere. Outside the image is zero. Source: Karras et al. 2020.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ganavatar_jax.core.arrays import Array, Float

TAPS = (0.125, 0.375, 0.375, 0.125)  # [1, 3, 3, 1] / 8, separable and symmetric


def _pad_axis(x: Array, axis: int, before: int, after: int) -> Array:
    pads = [(0, 0)] * x.ndim
    pads[axis] = (before, after)
    return jnp.pad(x, pads)


def _slice_axis(x: Array, axis: int, start: int, stop: int, step: int = 1) -> Array:
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, stop, step)
    return x[tuple(index)]


def _filter_axis(x: Array, axis: int, pad: int) -> Array:
    padded = _pad_axis(x, axis, pad, pad)
    length = padded.shape[axis] - 3
    # Symmetric taps: two sums, two products.
    outer = _slice_axis(padded, axis, 0, length) + _slice_axis(padded, axis, 3, 3 + length)
    inner = _slice_axis(padded, axis, 1, 1 + length) + _slice_axis(padded, axis, 2, 2 + length)
    return outer * TAPS[0] + inner * TAPS[1]


def _decimate_axis(x: Array, axis: int) -> Array:
    # Pad 1, filter, keep every second sample from index 0: out[i] uses x[2i-1 .. 2i+2].
    padded = _pad_axis(x, axis, 1, 1)
    count = x.shape[axis] // 2
    taps = [_slice_axis(padded, axis, k, k + 2 * count - 1, 2) for k in range(4)]
    return (taps[0] + taps[3]) * TAPS[0] + (taps[1] + taps[2]) * TAPS[1]


def interleave(even: Float[Array, "*s"], odd: Float[Array, "*s"], axis: int) -> Float[Array, "*s2"]:
    """Merges two arrays so that even[i], odd[i] become neighbours 2i, 2i + 1.

    Args:
      even: Samples of even index.
      odd: Samples of odd index, same shape.
      axis: Axis to merge along (not negative).

    Returns:
      Array twice as long along `axis`.
    """
    stacked = jnp.stack([even, odd], axis=axis + 1)
    shape = list(even.shape)
    shape[axis] *= 2
    return stacked.reshape(shape)


def _upsample_axis(x: Array, axis: int) -> Array:
    length = x.shape[axis]
    padded = _pad_axis(x, axis, 1, 1)
    before, after = (
        _slice_axis(padded, axis, 0, length),
        _slice_axis(padded, axis, 2, 2 + length),
    )
    return interleave(0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after, axis)


def upsample_2x(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Doubles height and width: out[2i] = (x[i-1] + 3 x[i]) / 4, out[2i+1] = (3 x[i] + x[i+1]) / 4.

    Args:
      x: Images, NHWC.

    Returns:
      Images of twice the height and width.

    Source: EG3D reference behaviour (upsample2d, pad (2, 1, 2, 1), gain 4).
    """
    result: Any = _upsample(x)  # custom_vjp types its result as an object
    return result


def downsample_2x(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Filters and keeps every second sample, starting with index 0 (pad 1 on each side).

    Args:
      x: Images, NHWC, even height and width.

    Returns:
      Images of half the height and width.

    Source: EG3D reference behaviour (FIR in front of a 1x1 stride-2 convolution).
    """
    result: Any = _downsample(x)
    return result


@jax.custom_vjp
def _upsample(x: Array) -> Array:
    """Doubles both axes. XLA's own gradient, of interleaving and padding, is slow on CPUs."""
    return _upsample_axis(_upsample_axis(x, 1), 2)


@jax.custom_vjp
def _downsample(x: Array) -> Array:
    """Halves both axes; four times this is the transpose of `_upsample`."""
    return _decimate_axis(_decimate_axis(x, 1), 2)


def _upsample_backward(residual: None, cotangent: Array) -> tuple[Any]:
    del residual
    return (4.0 * downsample_2x(cotangent),)


def _downsample_backward(residual: None, cotangent: Array) -> tuple[Any]:
    del residual
    return (0.25 * upsample_2x(cotangent),)


_upsample.defvjp(lambda x: (_upsample(x), None), _upsample_backward)
_downsample.defvjp(lambda x: (_downsample(x), None), _downsample_backward)


def smooth_padded(x: Float[Array, "b h w c"]) -> Float[Array, "b h1 w1 c"]:
    """Filters with pad 2 on each side, so that height and width grow by one.

    Args:
      x: Images, NHWC.

    Returns:
      Images of size (h + 1, w + 1).

    Source: EG3D reference behaviour (FIR in front of a 3x3 stride-2 convolution).
    """
    return _filter_axis(_filter_axis(x, 1, 2), 2, 2)


def merge_phases(
    even: Float[Array, "*s1"], odd: Float[Array, "*s"], axis: int
) -> Float[Array, "*s2"]:
    """Filters a signal given as its even (n + 1) and odd (n) samples; gain 2, pad 1.

    The signal is what a stride-2 transposed convolution with 3 taps yields (2 n + 1 samples);
    working on its phases avoids interleaving it first.

    Args:
      even: Samples of even index along `axis`, n + 1 of them.
      odd: Samples of odd index, n of them.
      axis: The axis.

    Returns:
      The 2 n filtered samples, interleaved.

    Source: Karras et al. 2020 (FIR after the up-convolution); polyphase form ours.
    """
    length = odd.shape[axis]
    odds = _pad_axis(odd, axis, 1, 1)
    odd_before = _slice_axis(odds, axis, 0, length)
    odd_after = _slice_axis(odds, axis, 2, 2 + length)
    even_now = _slice_axis(even, axis, 0, length)
    even_next = _slice_axis(even, axis, 1, 1 + length)
    outer, inner = 2 * TAPS[0], 2 * TAPS[1]
    first = outer * (odd_before + even_next) + inner * (even_now + odd)
    second = outer * (even_now + odd_after) + inner * (odd + even_next)
    return interleave(first, second, axis)


def blur_taps(sigma: float) -> tuple[float, ...]:
    """Computes the taps of the discriminator's fading blur.

    Args:
      sigma: Standard deviation-like width, pixels.

    Returns:
      2 floor(3 sigma) + 1 taps 2^-(k / sigma)^2 that sum to one; a single 1 if there is no blur.

    Source: EG3D reference behaviour (blur fade).
    """
    radius = int(3 * sigma)
    if radius <= 0:
        return (1.0,)
    raw = [2.0 ** (-((k / sigma) ** 2)) for k in range(-radius, radius + 1)]
    total = sum(raw)
    return tuple(v / total for v in raw)


def blur(x: Float[Array, "b h w c"], taps: Float[Array, " k"]) -> Float[Array, "b h w c"]:
    """Filters both axes with odd-length taps; size unchanged, zero outside.

    Args:
      x: Images, NHWC.
      taps: Filter taps, odd count.

    Returns:
      Filtered images.

    Source: EG3D reference behaviour (filter2d).
    """
    radius = taps.shape[0] // 2
    for axis in (1, 2):
        padded = _pad_axis(x, axis, radius, radius)
        length = x.shape[axis]
        # Taps may be traced, so that one compilation serves the whole fade.
        x = sum(
            (_slice_axis(padded, axis, k, k + length) * taps[k] for k in range(taps.shape[0])),
            start=jnp.zeros_like(x),
        )
    return x
