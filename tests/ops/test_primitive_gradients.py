"""StyleGAN primitives: gradients of both orders, and low precisions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.ops import (
    bias_act,
    conv,
    grid_sample,
    linear,
    minibatch_stddev,
    modulated_conv,
    resize,
)
from helpers import compare, compiled, reference


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


def _draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _plain_up2(x, weight):
    kernel = jnp.flip(weight, (0, 1))
    dims = ("NHWC", "HWIO", "NHWC")
    pads = ((2, 2), (2, 2))
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), pads, lhs_dilation=(2, 2), dimension_numbers=dims
    )
    return _plain_filter(y, 1, 4.0)


def _plain_filter(y, pad, gain):
    taps = jnp.asarray(gain * reference.FILTER, y.dtype)[:, :, None, None]
    count = y.shape[-1]
    return jax.lax.conv_general_dilated(
        y,
        jnp.tile(taps, (1, 1, 1, count)),
        (1, 1),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=count,
    )


def _plain_down2(x, weight):
    return jax.lax.conv_general_dilated(
        _plain_filter(x, 2, 1.0),
        weight,
        (2, 2),
        ((0, 0), (0, 0)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize(
    ("ours", "plain"), [(conv.conv2d_up2, _plain_up2), (conv.conv2d_down2, _plain_down2)]
)
def test_hand_written_weight_gradients_equal_those_of_plain_convolutions(ours, plain):
    x, weight = _draw(11, 2, 4, 6, 3), _draw(12, 3, 3, 3, 2)
    side = jax.eval_shape(ours, x, weight).shape
    direction = _draw(13, *side)

    def gradients(function):
        loss = lambda x, w: jnp.sum(function(x, w) * direction)  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=(0, 1)))(x, weight)

    limit = compare.LIMITS["gradient"]
    for name, actual, expected in zip("xw", gradients(ours), gradients(plain), strict=True):
        compare.assert_parity(actual, expected, limit=limit, name=f"{ours.__name__} d{name}")


def _critic_up(x, weight):
    style = jnp.sum(x, axis=(1, 2))
    return modulated_conv.modulated_conv2d(x, weight, style, up=True)


@pytest.mark.parametrize("layer", [conv.conv2d_up2, conv.conv2d_down2, conv.conv2d, _critic_up])
def test_gradients_of_a_gradient_norm_equal_finite_differences(layer):
    with jax.enable_x64(True):
        draws = np.random.default_rng(14)
        x, weight = draws.normal(size=(1, 4, 4, 2)), draws.normal(size=(3, 3, 2, 2))
        direction = draws.normal(size=weight.shape)

        def penalty(weight):
            total = lambda x: jnp.sum(jnp.tanh(layer(x, weight)))  # noqa: E731
            return jnp.sum(jnp.square(jax.grad(total)(jnp.asarray(x))))

        along = lambda s: penalty(jnp.asarray(weight + s * direction))  # noqa: E731
        both = jax.jit(jax.value_and_grad(along))
        slope = both(0.0)[1]
        assert slope.dtype == jnp.float64
        step = 1e-5
        numeric = (both(step)[0] - both(-step)[0]) / (2 * step)
        assert float(slope) == pytest.approx(float(numeric), rel=1e-7)


@pytest.mark.parametrize("count", [40, 5001], ids=["one block", "two blocks, one filled up"])
def test_the_gradient_of_the_lookup_is_its_transpose(count):
    planes, values = _draw(0, 2, 3, 5, 7, 2), _draw(1, 2, count, 2)
    points = 0.6 * _draw(2, 2, 3, count, 2)
    looked_up, pull_back = jax.vjp(lambda p: grid_sample.sample_planes(p, points), planes)
    (gradient,) = pull_back(values)
    np.testing.assert_allclose(
        jnp.sum(looked_up * values), jnp.sum(planes * gradient), rtol=1e-5, atol=1e-3
    )
    # Linear, so the gradient at other planes is the same; and every texel near a point gets some.
    (again,) = jax.vjp(lambda p: grid_sample.sample_planes(p, points), 2.0 * planes)[1](values)
    np.testing.assert_array_equal(again, gradient)
    assert (gradient != 0.0).mean() > 0.9


def test_the_gradient_of_the_points_equals_finite_differences():
    planes, values = _draw(0, 2, 3, 5, 7, 3), _draw(1, 2, 30, 3)
    texels = np.random.default_rng(2).uniform(0.2, 0.8, (2, 3, 30, 2))  # between texel centres
    texels += np.random.default_rng(3).integers(0, 4, (2, 3, 30, 2))
    points = jnp.asarray((2.0 * texels + 1.0) / np.array([7.0, 5.0]) - 1.0, jnp.float32)

    @jax.jit
    def total(points):
        return jnp.sum(grid_sample.sample_planes(planes, points) * values, axis=-1)

    (gradient,) = jax.vjp(total, points)[1](jnp.ones((2, 30)))
    for plane, axis in itertools.product(range(3), (0, 1)):
        step = jnp.zeros((1, 3, 1, 2)).at[0, plane, 0, axis].set(0.01)  # linear within a texel
        differences = (total(points + step) - total(points - step)) / 0.02
        found = gradient[:, plane, :, axis]
        np.testing.assert_allclose(found, differences, rtol=2e-3, atol=2e-3)


# Low precision.


def test_float16_neither_overflows_nor_drifts_from_float32():
    arrays = 3.0 * _draw(20, 2, 4, 4, 8), 300.0 * _draw(21, 3, 3, 8, 4), 3000.0 * _draw(22, 2, 8)
    run = jax.jit(lambda x, w, s: modulated_conv.modulated_conv2d(x, w, s, up=True))
    exact = run(*arrays)
    half = run(arrays[0].astype(jnp.float16), *arrays[1:])
    assert half.dtype == jnp.float16
    compare.assert_parity(half, exact, limit=1e-2, name="float16")


def test_every_layer_returns_the_precision_it_is_given():
    x, weight, style, bias = (
        _draw(23, 2, 4, 4, 3),
        _draw(24, 3, 3, 3, 3),
        _draw(25, 2, 3),
        jnp.ones(3),
    )

    def layers(x):
        return {
            "plain": conv.conv2d(x, weight),
            "up": conv.conv2d_up2(x, weight),
            "down": conv.conv2d_down2(x, weight),
            "modulated": modulated_conv.modulated_conv2d(x, weight, style),
            "rgb": modulated_conv.modulated_conv2d(x, weight[:1, :1], style, demodulate=False),
            "linear": linear.linear(x, weight[0, 0], bias, activation="lrelu"),
            "activation": bias_act.bias_act(x, bias, activation="lrelu", clamp=1.0),
            "deviation": minibatch_stddev.minibatch_stddev(x, group_size=2),
            "resized": resize.resize(x, 2),
        }

    limits = {jnp.float32: 0.0, jnp.bfloat16: 5e-2, jnp.float16: 1e-2}
    results = jax.jit(lambda x: [layers(x.astype(dtype)) for dtype in limits])(x)
    for (dtype, limit), layer in zip(limits.items(), results, strict=True):
        for name, value in layer.items():
            assert value.dtype == dtype, name
            exact = results[0][name]
            compare.assert_parity(value.astype(jnp.float32), exact, limit=limit, name=name)
