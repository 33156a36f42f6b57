"""StyleGAN primitives: known answers, loops in NumPy, properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.ops import (
    bias_act,
    conv,
    fir,
    grid_sample,
    linear,
    minibatch_stddev,
    modulated_conv,
    resize,
)
from helpers import compare, compiled, reference

_X = np.array([[1, 2], [3, 4]], np.float32)
_Y = np.arange(1, 17, dtype=np.float32).reshape(4, 4)
_KERNEL = np.arange(1, 10, dtype=np.float32).reshape(3, 3)


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


def _image(x):
    return jnp.asarray(x)[None, :, :, None]


def _kernel(w):
    return jnp.asarray(w)[:, :, None, None]


def _check(actual, expected, *, atol=5e-7):
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=3e-7, atol=atol)


def _draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


# Numbers of the PyTorch original for small inputs.


def test_upsampling_known_answer():
    expected = [
        [0.5625, 0.9375, 1.3125, 1.125],
        [1.125, 1.75, 2.25, 1.875],
        [1.875, 2.75, 3.25, 2.625],
        [1.6875, 2.4375, 2.8125, 2.25],
    ]
    _check(jax.jit(fir.upsample_2x)(_image(_X))[0, :, :, 0], expected)


def test_up_convolution_known_answer():
    expected = [
        [17.0625, 29.6875, 37.25, 33.9375],
        [36, 60.625, 73.4375, 64.6875],
        [56.25, 90.625, 105.3125, 89.4375],
        [63.9375, 99.4375, 111.875, 92.0625],
    ]
    _check(jax.jit(conv.conv2d_up2)(_image(_X), _kernel(_KERNEL))[0, :, :, 0], expected)


def test_down_convolution_known_answers():
    down = jax.jit(conv.conv2d_down2)
    expected = [[216.875, 237.046875], [290.1875, 291.984375]]
    _check(down(_image(_Y), _kernel(_KERNEL))[0, :, :, 0], expected)
    one = down(_image(_Y), jnp.ones((1, 1, 1, 1)))[0, :, :, 0]
    _check(one, [[3.5, 4.703125], [8.3125, 9.515625]])


def test_plain_convolution_known_answer():
    expected = [
        [111, 178, 217, 145],
        [231, 348, 393, 252],
        [363, 528, 573, 360],
        [197, 274, 295, 175],
    ]
    _check(jax.jit(conv.conv2d)(_image(_Y), _kernel(_KERNEL))[0, :, :, 0], expected)


def _modulated(up):
    x = jnp.moveaxis(jnp.arange(1.0, 9.0).reshape(1, 2, 2, 2), 1, -1)
    weight = jnp.transpose((jnp.arange(36.0) - 17.0).reshape(2, 2, 3, 3) / 10.0, (2, 3, 1, 0))
    style = jnp.array([[1.0, -2.0]])
    run = jax.jit(lambda *a: modulated_conv.modulated_conv2d(*a, up=up))
    return np.moveaxis(np.asarray(run(x, weight, style))[0], -1, 0)


def test_modulated_convolution_known_answers():
    _check(
        _modulated(up=False),
        [
            [[-0.2655274, 0.5923303], [2.3080456, 3.1659033]],
            [[-8.8320818, -8.3497057], [-7.3849525, -6.9025764]],
        ],
        atol=1e-6,
    )
    doubled = _modulated(up=True)
    rows = np.stack([doubled[0, 0], doubled[0, 3], doubled[1, 0]])
    expected = [
        [3.2463276, 4.0812073, 3.7633400, 2.4114480],
        [0.8182840, 0.6344573, 0.2170176, -0.2463787],
        [-5.9270563, -8.6361160, -9.1249523, -7.0167098],
    ]
    _check(rows, expected, atol=1e-6)


def test_minibatch_deviation_known_answer():
    x = jnp.square(jnp.arange(8.0)).reshape(8, 1, 1, 1)
    out = minibatch_stddev.minibatch_stddev(x, group_size=4)
    _check(out[:, 0, 0, 0], np.arange(8.0) ** 2)
    _check(out[:, 0, 0, 1], [14, 18.3303032] * 4)


def test_bias_activation_known_answer():
    x = jnp.array([[-300.0], [-1.0], [1.0], [300.0]])
    y = bias_act.bias_act(x, jnp.array([0.5]), activation="lrelu", clamp=256.0)
    _check(y[:, 0], [-84.7113953, -0.1414214, 2.1213202, 256])


def test_second_moment_known_answer():
    _check(linear.normalize_second_moment(jnp.array([3.0, 4.0])), [0.8485281, 1.1313709])


def test_blur_taps_known_answer():
    taps = fir.blur_taps(2.3)
    assert len(taps) == 13
    _check(taps[6:10], [0.2043827, 0.1792828, 0.1210103, 0.0628485])
    assert taps == taps[::-1]
    assert sum(taps) == pytest.approx(1.0)
    assert fir.blur_taps(0.3) == (1.0,)


def test_antialiased_resizing_known_taps():
    def taps(place):
        small = lambda x: resize.resize(x, 128)[0, place, 64, 0]  # noqa: E731
        return jax.jit(jax.grad(small))(jnp.zeros((1, 512, 512, 1)))[0, :, :, 0].sum(1)

    interior = np.zeros(512)
    interior[254:262] = np.array([1, 3, 5, 7, 7, 5, 3, 1]) / 32
    _check(taps(64), interior)
    edge = np.zeros(512)
    edge[:6] = [0.1785714, 0.25, 0.25, 0.1785714, 0.1071429, 0.0357143]
    _check(taps(0), edge)


# Loops in NumPy.


def _against_loops(function, loops, *arrays, name):
    expected = loops(*(np.asarray(a, np.float64) for a in arrays))
    actual = jax.jit(function)(*arrays)
    assert actual.dtype == jnp.float32
    compare.assert_parity(actual, expected, limit=compare.LIMITS["layer"], name=name)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (fir.upsample_2x, {"up": 2, "pad": (2, 1, 2, 1), "gain": 4.0}),
        (fir.downsample_2x, {"down": 2, "pad": (1, 1, 1, 1)}),
        (fir.smooth_padded, {"pad": (2, 2, 2, 2)}),
    ],
)
def test_filters_equal_the_definition(function, options):
    def loops(x):
        return reference.by_channel(lambda image: reference.upfirdn2d(image, **options), x)

    _against_loops(function, loops, _draw(0, 2, 4, 6, 2), name=function.__name__)


def test_blur_equals_the_definition():
    taps = np.array([0.1, 0.2, 0.4, 0.2, 0.1])

    def loops(x):
        return reference.by_channel(
            lambda image: reference.upfirdn2d(image, pad=(2, 2, 2, 2), taps=np.outer(taps, taps)), x
        )

    blur = lambda x: fir.blur(x, jnp.asarray(taps, jnp.float32))  # noqa: E731
    _against_loops(blur, loops, _draw(1, 1, 5, 7, 2), name="blur")


@pytest.mark.parametrize("size", [1, 3])
def test_plain_and_down_convolutions_equal_the_loops(size):
    x, weight = _draw(2, 2, 6, 4, 3), _draw(3, size, size, 3, 2)
    plain = lambda x, w: reference.correlate(x, w, pad=size // 2)  # noqa: E731
    _against_loops(conv.conv2d, plain, x, weight, name="plain")
    _against_loops(conv.conv2d_down2, reference.conv_down2, x, weight, name="down")


def test_the_up_convolution_equals_a_transposed_convolution_and_a_filter():
    x, weight = _draw(4, 2, 3, 4, 3), _draw(5, 3, 3, 3, 2)
    _against_loops(conv.conv2d_up2, reference.conv_up2, x, weight, name="up")


@pytest.mark.parametrize(
    "options", [{}, {"up": True}, {"demodulate": False}], ids=["plain", "up", "undemodulated"]
)
def test_scaling_inputs_and_outputs_equals_per_sample_kernels(options):
    size = 1 if options.get("demodulate") is False else 3
    arrays = _draw(6, 2, 3, 4, 3), _draw(7, size, size, 3, 2), 1.0 + _draw(8, 2, 3)
    _against_loops(
        lambda *a: modulated_conv.modulated_conv2d(*a, **options),
        lambda *a: reference.modulated_conv(*a, **options),
        *arrays,
        name=f"modulated {options}",
    )


def test_planes_are_sampled_bilinearly_with_zeros_outside():
    planes, points = _draw(9, 2, 3, 4, 6, 3), 1.3 * _draw(10, 2, 3, 40, 2)
    points = points.at[0, 0, :4].set(
        jnp.array([[1.0, 1.0], [-1.0, 0.0], [1.2, 0.0], [50.0, -50.0]])
    )

    def loops(planes, points):
        def look(plane, places):
            return np.array([reference.grid_sample(plane, u, v) for u, v in places])

        images = zip(planes, points, strict=True)
        return np.stack([sum(map(look, *image)) for image in images])

    _against_loops(grid_sample.sample_planes, loops, planes, points, name="planes")

    def library(planes, points):
        px = ((points[..., 0] + 1.0) * 6.0 - 1.0) / 2.0
        py = ((points[..., 1] + 1.0) * 4.0 - 1.0) / 2.0
        look = lambda plane, y, x: jax.vmap(  # noqa: E731
            lambda c: jax.scipy.ndimage.map_coordinates(c, [y, x], order=1), in_axes=-1, out_axes=-1
        )(plane)
        return jnp.sum(jax.vmap(jax.vmap(look))(planes, py, px), axis=1)

    compare.assert_parity(
        jax.jit(grid_sample.sample_planes)(planes, points),
        jax.jit(library)(planes, points),
        limit=compare.LIMITS["layer"],
        name="planes against map_coordinates",
    )


def test_far_and_infinite_coordinates_read_zeros():
    planes = jnp.ones((1, 1, 3, 3, 2))
    points = jnp.array([[[[1e30, 0.0], [-1e30, 1e30], [jnp.inf, 0.0], [0.0, -jnp.inf]]]])
    np.testing.assert_array_equal(grid_sample.sample_planes(planes, points), np.zeros((1, 4, 2)))


# Properties.


def test_filters_keep_the_level_away_from_the_border():
    taps = jnp.asarray(fir.blur_taps(1.1), jnp.float32)
    resamplers = (fir.upsample_2x, fir.downsample_2x, fir.smooth_padded)
    filters = jax.jit(lambda x: [f(x)[0, :, :, 0] for f in resamplers] + [fir.blur(x, taps)])
    *flat, _ = filters(jnp.full((1, 16, 16, 1), 3.0))
    for out in flat:
        _check(out[2:-2, 2:-2], 3.0)
        assert (np.asarray(out)[0] < 3.0).all()  # outside is black, never continued
    dots = filters(jnp.zeros((1, 16, 16, 1)).at[0, 7, 8, 0].set(1.0))
    # Enlarging fourfold, shrinking fourfold, and keeping the size.
    _check([np.asarray(dot).sum() for dot in dots], [4.0, 0.25, 1.0, 1.0])


def test_resizing_to_the_same_side_is_the_identity_and_keeps_a_plane_otherwise():
    x = _draw(15, 1, 8, 8, 2)
    assert resize.resize(x, 8) is x
    ramp = jnp.broadcast_to(jnp.arange(16.0)[None, :, None, None], (1, 16, 16, 1))
    _check(resize.resize(ramp, 4)[0, 1:3, 2, 0], [5.5, 9.5], atol=1e-5)


def test_the_call_gain_scales_activation_and_clamp():
    x = jnp.array([[3.0, 100.0, -100.0]])
    y = bias_act.bias_act(x, activation="lrelu", gain=0.5, clamp=10.0)
    _check(y[0], [3.0 * np.sqrt(0.5), 5.0, -5.0])
    _check(bias_act.bias_act(x, gain=2.0, clamp=10.0)[0], [6.0, 20.0, -20.0])


def test_linear_layers_scale_weight_and_bias_by_the_multiplier():
    x, weight, bias = _draw(16, 3, 4), _draw(17, 4, 2), _draw(18, 2)
    y = linear.linear(x, weight, bias, lr_multiplier=0.01)
    expected = np.asarray(x) @ (np.asarray(weight) * 0.01 / 2) + np.asarray(bias) * 0.01
    _check(y, expected)
    lifted = linear.linear(x, weight, bias, activation="lrelu")
    full = np.asarray(x) @ (np.asarray(weight) / 2) + np.asarray(bias)
    _check(lifted, np.where(full >= 0, full, 0.2 * full) * np.sqrt(2), atol=1e-6)


def test_deviations_stay_within_their_block():
    x = _draw(19, 8, 2, 2, 3)

    @jax.jit
    def variants(x):
        stddev = minibatch_stddev.minibatch_stddev
        parts = [stddev(x[k : k + 4], group_size=2) for k in (0, 4)]
        large = [stddev(x, group_size=8, block_size=4), stddev(x, group_size=4, block_size=4)]
        return stddev(x, group_size=2, block_size=4), jnp.concatenate(parts), *large

    whole, parts, large, block_only = variants(x)
    np.testing.assert_allclose(whole, parts, rtol=1e-6)
    # Members of a group are strided: samples 0 and 2 of a block of four with groups of two.
    pair = np.asarray(x)[[0, 2]]
    expected = np.sqrt(pair.var(axis=0) + 1e-8).mean()
    _check(whole[[0, 2], 0, 0, -1], expected)
    # Groups never exceed a block.
    np.testing.assert_allclose(large, block_only, rtol=1e-6)


@pytest.mark.parametrize(("batch", "group", "block"), [(6, 4, 0), (8, 3, 4), (6, 2, 4), (2, 2, 4)])
def test_batches_that_do_not_divide_are_refused(batch, group, block):
    with pytest.raises(ValueError, match=f"got a batch of {batch}. Change the batch size"):
        minibatch_stddev.minibatch_stddev(
            jnp.zeros((batch, 1, 1, 1)), group_size=group, block_size=block
        )
