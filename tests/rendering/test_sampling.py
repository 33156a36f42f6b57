"""Samples along rays: where they may lie, what they follow, and how they are put in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganavatar_jax.rendering import sampling
from helpers import compiled, reference

_T = (1.0, 1.5, 2.0, 3.0, 3.5, 4.0)
_WEIGHTS = (0.0958018, 0.2648335, 0.5908636, 0.0317557, 0.0016042)


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


def _uniform(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), jnp.float32)


def test_importance_known_answer():
    u = jnp.array([0.0, 0.1, 0.3, 0.5, 0.77, 0.999])
    samples = sampling.importance(jnp.array(_T), jnp.array(_WEIGHTS), u, count=6)
    expected = [1.25, 1.4053072, 1.7159216, 2.0522692, 2.5198584, 3.2468257]
    np.testing.assert_allclose(samples, expected, atol=1e-6)


@given(u=st.lists(st.floats(0.0, 1.0, width=32), min_size=5, max_size=5))
def test_stratified_samples_lie_in_their_own_interval(u):
    near, far = jnp.array([2.25]), jnp.array([3.3])
    t = sampling.stratified(near, far, jnp.array([u]), count=5)[0]
    edges = 2.25 + np.arange(6) * (3.3 - 2.25) / 4  # the last interval passes t_far (quirk Q7)
    assert (t >= edges[:-1] - 1e-6).all()
    assert (t <= edges[1:] + 1e-6).all()


def test_samples_without_draws_are_the_middles():
    near, far = jnp.array([1.0, 2.0]), jnp.array([2.0, 4.0])
    for disparity in (False, True):
        free = sampling.stratified(near, far, None, count=4, disparity=disparity)
        half = sampling.stratified(near, far, jnp.full((2, 4), 0.5), count=4, disparity=disparity)
        np.testing.assert_array_equal(free, half)
    t, weights = jnp.array([_T]), jnp.array([_WEIGHTS])
    middles = (jnp.arange(7.0) + 0.5)[None] / 7.0
    np.testing.assert_array_equal(
        sampling.importance(t, weights, None, count=7),
        sampling.importance(t, weights, middles, count=7),
    )


def test_disparity_steps_are_even_in_inverse_distance():
    near, far = jnp.array([1.0]), jnp.array([5.0])
    t = sampling.stratified(near, far, jnp.zeros((1, 5)), count=5, disparity=True)
    np.testing.assert_allclose(1.0 / np.asarray(t[0]), np.linspace(1.0, 0.2, 5), rtol=1e-6)


def test_importance_samples_follow_the_smoothed_histogram():
    weights = np.random.default_rng(1).uniform(size=7) ** 4
    t = np.cumsum(np.random.default_rng(2).uniform(0.1, 1.0, size=8))
    count = 4000
    samples = np.asarray(
        sampling.importance(
            jnp.asarray(t, jnp.float32), jnp.asarray(weights, jnp.float32), None, count=count
        )
    )
    # Bin j lies between the middles of intervals j and j + 1; the last one is never reached.
    bins = (t[:-1] + t[1:]) / 2
    counts, _ = np.histogram(samples, bins=bins)
    pdf = reference.importance_pdf(weights)
    np.testing.assert_allclose(counts[:-1] / count, pdf, atol=2 / count)
    assert counts[-1] == 0
    assert (np.diff(samples) >= 0).all()
    # Within a bin samples are even.
    inside = samples[(samples > bins[1]) & (samples < bins[2])]
    np.testing.assert_allclose(
        inside.mean(), (bins[1] + bins[2]) / 2, atol=(bins[2] - bins[1]) / 50
    )


@pytest.mark.parametrize("u", [0.0, 1.0])
def test_importance_stays_within_the_bins_at_the_ends_of_the_draws(u):
    t = jnp.array([_T])
    for weights in (jnp.zeros((1, 5)), jnp.array([_WEIGHTS]), jnp.full((1, 5), 1e30)):
        samples = sampling.importance(t, weights, jnp.full((1, 3), u), count=3)
        assert np.isfinite(samples).all()
        assert ((samples >= 1.25) & (samples <= 3.75)).all()


def test_importance_has_no_gradient():
    def total(t, weights):
        return jnp.sum(sampling.importance(t, weights, None, count=4))

    gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(jnp.array([_T]), jnp.array([_WEIGHTS]))
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


# 64 samples are the most for which tables of comparisons replace sorts and gathers.
@pytest.mark.parametrize("count", [5, 64, 65])
def test_ordering_is_a_permutation_with_an_exact_inverse(count):
    t = _uniform(3, 2, 3, count).at[0, 0, 1:4].set(0.5)  # equal distances keep their order
    values, direction = _uniform(4, 2, 3, count), _uniform(5, 2, 3, count)

    @jax.jit
    def order(t, values, direction):
        rank = sampling.ranks(t)
        moved, undo = jax.vjp(lambda v: sampling.to_order(v, rank), values)
        back, redo = jax.vjp(lambda v: sampling.from_order(v, rank), moved)
        return rank, moved, back, undo(direction)[0], redo(direction)[0]

    rank, moved, back, to_gradient, from_gradient = order(t, values, direction)
    places = np.argsort(np.asarray(t), axis=-1, kind="stable")
    np.testing.assert_array_equal(np.argsort(rank, axis=-1), places)
    np.testing.assert_array_equal(moved, np.take_along_axis(np.asarray(values), places, axis=-1))
    np.testing.assert_array_equal(back, values)
    # A gather's gradient scatters: entry rank[i] of the direction belongs to value i.
    expected = np.take_along_axis(np.asarray(direction), np.asarray(rank), axis=-1)
    np.testing.assert_array_equal(to_gradient, expected)
    expected = np.take_along_axis(np.asarray(direction), places, axis=-1)
    np.testing.assert_array_equal(from_gradient, expected)


def test_long_and_short_rays_are_sampled_alike():
    """Gathers (more than 64 bins) and tables (fewer) invert the same distribution."""
    weights = np.random.default_rng(6).uniform(size=65)
    t = np.linspace(2.0, 3.0, 66, dtype=np.float32)
    samples = np.asarray(
        sampling.importance(jnp.asarray(t), jnp.asarray(weights, jnp.float32), None, count=500)
    )
    cdf = np.concatenate([[0.0], np.cumsum(reference.importance_pdf(weights))])
    middles = (t[:-1] + t[1:]) / 2
    expected = np.interp((np.arange(500) + 0.5) / 500, cdf, middles[: len(cdf)])
    np.testing.assert_allclose(samples, expected, atol=1e-5)
