"""How much faster the forms chosen here are than the obvious ones: ratios, printed, never judged.

`make bench`. Both forms of a pair run in one process, in turns, on the same arrays; their results
must agree, their times may not be compared with those of another run.
"""

import functools
import os
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.ops import conv, fir, grid_sample, softplus
from ganavatar_jax.rendering import sampling

pytestmark = pytest.mark.bench

_ROUNDS = 15
_DIMS = ("NHWC", "HWIO", "NHWC")


def dilated_up(x, weight):
    """The up-convolution as it is defined: dilated input, then the filter as a convolution."""
    flipped = weight[::-1, ::-1]
    wide = jax.lax.conv_general_dilated(
        x, flipped, (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2), dimension_numbers=_DIMS
    )
    return 4.0 * depthwise(wide, pad=1)


def depthwise(x, *, pad):
    """The filter as one depthwise convolution."""
    taps = jnp.asarray(fir.TAPS)
    channels = x.shape[-1]
    kernel = jnp.broadcast_to(jnp.outer(taps, taps)[:, :, None, None], (4, 4, 1, channels))
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        ((pad, pad), (pad, pad)),
        dimension_numbers=_DIMS,
        feature_group_count=channels,
    )


def sorted_by_argsort(t):
    return jnp.take_along_axis(t, jnp.argsort(t, axis=-1), axis=-1)


def sorted_by_rank(t):
    return sampling.to_order(t, sampling.ranks(t))


def four_taps(planes, coordinates):
    """The lookup as four gathers of single texels, each with its own mask, then the sum."""
    height, width = planes.shape[2:4]
    x = ((coordinates[..., 0] + 1.0) * width - 1.0) / 2.0
    y = ((coordinates[..., 1] + 1.0) * height - 1.0) / 2.0
    left, top = jnp.floor(x), jnp.floor(y)
    result = 0.0
    for row, row_weight in ((top, top + 1.0 - y), (top + 1.0, y - top)):
        for column, column_weight in ((left, left + 1.0 - x), (left + 1.0, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            i = jnp.clip(row, 0, height - 1).astype(jnp.int32)
            j = jnp.clip(column, 0, width - 1).astype(jnp.int32)
            texel = jax.vmap(jax.vmap(lambda plane, a, b: plane[a, b]))(planes, i, j)
            result += texel * (row_weight * column_weight * inside)[..., None]
    return jnp.sum(result, axis=1)


def gradient_of(function, argument):
    """Pulls a cotangent, which comes last, back to one of a function's arguments."""

    def pull_back(*arrays):
        *arguments, cotangent = arrays
        return jax.vjp(function, *arguments)[1](cotangent)[argument]

    return pull_back


def draw(*shapes):
    generator = np.random.default_rng(0)
    return [jnp.asarray(generator.uniform(-1, 1, shape), jnp.float32) for shape in shapes]


IMAGE, KERNEL = (4, 32, 32, 64), (3, 3, 64, 64)
DOUBLED, PADDED, SAMPLES = (4, 64, 64, 64), (4, 33, 33, 64), (4, 1024, 20)
PLANES, POINTS, FEATURES = (4, 3, 64, 64, 32), (4, 3, 8192, 2), (4, 8192, 32)
HIDDEN = (32768, 64)
PAIRS = {
    "up-convolution": (conv.conv2d_up2, dilated_up, (IMAGE, KERNEL)),
    "up-convolution, image gradient": (
        gradient_of(conv.conv2d_up2, 0),
        gradient_of(dilated_up, 0),
        (IMAGE, KERNEL, DOUBLED),
    ),
    "up-convolution, weight gradient": (
        gradient_of(conv.conv2d_up2, 1),
        gradient_of(dilated_up, 1),
        (IMAGE, KERNEL, DOUBLED),
    ),
    "filter": (fir.smooth_padded, functools.partial(depthwise, pad=2), (IMAGE,)),
    "filter, gradient": (
        gradient_of(fir.smooth_padded, 0),
        gradient_of(functools.partial(depthwise, pad=2), 0),
        (IMAGE, PADDED),
    ),
    "order of 20 samples": (sorted_by_rank, sorted_by_argsort, (SAMPLES,)),
    "order of 20 samples, gradient": (
        gradient_of(sorted_by_rank, 0),
        gradient_of(sorted_by_argsort, 0),
        (SAMPLES, SAMPLES),
    ),
    "plane lookup": (grid_sample.sample_planes, four_taps, (PLANES, POINTS)),
    "plane lookup, plane gradient": (
        gradient_of(grid_sample.sample_planes, 0),
        gradient_of(four_taps, 0),
        (PLANES, POINTS, FEATURES),
    ),
    "softplus": (softplus.softplus, jax.nn.softplus, (HIDDEN,)),
    "softplus, gradient": (
        gradient_of(softplus.softplus, 0),
        gradient_of(jax.nn.softplus, 0),
        (HIDDEN, HIDDEN),
    ),
}


@pytest.fixture(scope="module")
def table():
    """Prints the rows that the tests add, with the hardware, at the end."""
    rows = []
    yield rows
    device = jax.devices()[0].device_kind
    print(f"\n\n{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {device}")
    print(f"jax {jax.__version__}; fastest of {_ROUNDS}, milliseconds\n")
    print("| operation | chosen | obvious | times faster |\n|---|---|---|---|")
    for name, chosen, obvious in rows:
        print(f"| {name} | {chosen:.2f} | {obvious:.2f} | {obvious / chosen:.1f} |")


@pytest.mark.parametrize("name", PAIRS)
def test_the_chosen_form_gives_the_numbers_of_the_obvious_one(name, table):
    chosen, obvious, shapes = PAIRS[name]
    arrays = draw(*shapes)
    forms = [jax.jit(chosen), jax.jit(obvious)]
    results = [np.asarray(form(*arrays)) for form in forms]
    np.testing.assert_allclose(results[0], results[1], rtol=0, atol=1e-4 * np.abs(results[1]).max())
    times = np.zeros((2, _ROUNDS))
    for turn in range(_ROUNDS):
        for index, form in enumerate(forms):
            start = time.perf_counter()
            jax.block_until_ready(form(*arrays))
            times[index, turn] = time.perf_counter() - start
    table.append((name, *1e3 * times.min(axis=1)))
