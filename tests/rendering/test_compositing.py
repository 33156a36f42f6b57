"""Compositing: known answers, loops in NumPy, bounds on weights, behaviour at extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganavatar_jax.rendering import compositing
from helpers import compare, compiled, reference

_T = jnp.array([1.0, 1.5, 2.0, 3.0, 3.5, 4.0])
_DENSITY = jnp.array([-1.0, 0.0, 2.0, 5.0, 1.0, -2.0])
_COLORS = jnp.array([0.1, 0.9, 0.5, 0.3, 0.7, 0.2])


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


def test_weights_known_answer():
    weights = compositing.interval_weights(_DENSITY, _T)
    expected = [0.0958018, 0.2648335, 0.5908636, 0.0317557, 0.0016042]
    np.testing.assert_allclose(weights, expected, atol=1e-7)
    distance, opacity = compositing.expected_distance(weights, _T)
    assert float(opacity) == pytest.approx(0.9848589, abs=2e-7)
    assert float(distance) == pytest.approx(2.2029469, abs=5e-7)
    color = float(jnp.sum(compositing.sample_weights(weights) * _COLORS))
    assert 2.0 * color - 1.0 == pytest.approx(-0.0275409, abs=3e-7)
    white = color + 1.0 - float(opacity)
    assert 2.0 * white - 1.0 == pytest.approx(0.0027413, abs=3e-7)


def test_weights_equal_the_loop_over_intervals():
    draws = np.random.default_rng(0)
    density = (4.0 * draws.normal(size=(20, 9))).astype(np.float32)
    t = np.sort(draws.uniform(1.0, 4.0, size=(20, 9)), axis=-1).astype(np.float32)
    expected = np.stack([reference.interval_weights(d, s) for d, s in zip(density, t, strict=True)])
    actual = compositing.interval_weights(jnp.asarray(density), jnp.asarray(t))
    compare.assert_parity(actual, expected, limit=compare.LIMITS["compositing"], name="weights")


_NUMBERS = st.floats(-1e6, 1e6, width=32)
_STEPS = st.floats(0.0, 1e3, width=32)


@given(
    density=st.lists(_NUMBERS, min_size=6, max_size=6),
    steps=st.lists(_STEPS, min_size=6, max_size=6),
)
def test_composited_weights_are_not_negative_and_never_exceed_one(density, steps):
    t = jnp.cumsum(jnp.array(steps, jnp.float32))
    weights = compositing.interval_weights(jnp.array(density, jnp.float32), t)
    assert (weights >= 0.0).all()
    assert float(weights.sum()) <= 1.0 + 1e-5
    distance, opacity = compositing.expected_distance(weights, t)
    assert opacity >= 0.0
    assert not np.isnan(distance)
    if opacity > 1e-6:
        assert t[0] - 1e-3 <= distance <= t[-1] * (1.0 + 1e-5)


def test_sample_weights_keep_the_sum_and_the_quadrature():
    draws = np.random.default_rng(1)
    weights = jnp.asarray(draws.uniform(size=(4, 5)), jnp.float32)
    colors = jnp.asarray(draws.uniform(size=(4, 6)), jnp.float32)
    moved = compositing.sample_weights(weights)
    np.testing.assert_allclose(moved.sum(-1), weights.sum(-1), rtol=1e-6)
    middles = 0.5 * (colors[:, 1:] + colors[:, :-1])
    expected = jnp.sum(weights * middles, axis=-1)
    np.testing.assert_allclose(jnp.sum(moved * colors, axis=-1), expected, rtol=1e-6)


def test_a_uniform_medium_decays_exponentially():
    t = jnp.linspace(0.0, 2.0, 9)
    density = jnp.full((9,), 1.5)
    weights = compositing.interval_weights(density, t)
    rate = np.log1p(np.exp(0.5))
    np.testing.assert_allclose(jnp.cumsum(weights), 1.0 - np.exp(-rate * t[1:]), atol=1e-6)


def test_an_empty_ray_has_infinite_distance_and_a_finite_gradient():
    t = jnp.array([[1.0, 2.0, 3.0]])

    def total(density):
        weights = compositing.interval_weights(density, t)
        distance, opacity = compositing.expected_distance(weights, t)
        return jnp.sum(jnp.where(jnp.isinf(distance), 0.0, distance)) + jnp.sum(opacity), distance

    density = jnp.full((1, 3), -1e4)
    gradient, distance = jax.jit(jax.grad(total, has_aux=True))(density)
    assert distance.tolist() == [np.inf]
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("level", [-1e30, -100.0, 0.0, 100.0, 1e30])
@pytest.mark.parametrize("step", [0.0, 1e-6, 1e6])
def test_outputs_and_gradients_are_finite_at_extremes(level, step):
    t = step * jnp.arange(5.0)
    density = level * jnp.array([1.0, -1.0, 1.0, 1.0, 0.5])
    values, gradients = _extremes(density, t)
    assert all(np.isfinite(v).all() for v in (*values, *gradients))


@jax.jit
def _extremes(density, t):
    def total(density, t):
        weights = compositing.interval_weights(density, t)
        return jnp.sum(weights * _COLORS[:4]), weights

    (value, weights), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(density, t)
    return (value, weights), gradients
