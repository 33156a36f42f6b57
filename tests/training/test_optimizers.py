"""Adam against PyTorch's formula written out in NumPy, and who sits out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.training import adam_config, optimizers
from helpers import reference

_PARAMS = {"a": {"weight": np.array([1.0, -2.0, 3.0], np.float32), "bias": np.float32(0.5)}}


def _gradients(count, scale=1.0):
    draws = np.random.default_rng(0)
    return [
        {"a": {"weight": scale * draws.normal(size=3), "bias": scale * draws.normal()}}
        for _ in range(count)
    ]


def _train(config, gradients, masks=None, lr_scale=1.0):
    params = jax.tree.map(jnp.asarray, _PARAMS)
    state = optimizers.init(params, config)
    steps = {}
    for index, gradient in enumerate(gradients):
        mask = None if masks is None else masks[index]
        key = None if mask is None else tuple(jax.tree.leaves(mask))
        if key not in steps:
            steps[key] = jax.jit(
                functools.partial(optimizers.update, config=config, active=mask, lr_scale=lr_scale)
            )
        gradient = jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), gradient)
        params, state = steps[key](params, gradient, state)
    return params, state


@pytest.mark.parametrize(("beta1", "beta2"), [(0.0, 0.99), (0.9, 0.999)])
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_adam_equals_pytorchs_formula(beta1, beta2, scale):
    config = adam_config.AdamConfig(lr=0.02, beta1=beta1, beta2=beta2)
    gradients = _gradients(6, scale)
    params, state = _train(config, gradients)
    for name in ("weight", "bias"):
        expected, mean, square, count = reference.adam(
            _PARAMS["a"][name],
            [np.asarray(g["a"][name], np.float32).astype(np.float64) for g in gradients],
            lr=0.02,
            beta1=beta1,
            beta2=beta2,
        )
        np.testing.assert_allclose(params["a"][name], expected, rtol=2e-6)
        np.testing.assert_allclose(state.square["a"][name], square, rtol=2e-6)
        assert int(state.count["a"][name]) == count == 6
        if beta1:
            np.testing.assert_allclose(state.mean["a"][name], mean, rtol=2e-6)
    assert bool(jax.tree.leaves(state.mean)) == (beta1 > 0)  # without it the mean is the gradient


def test_lazy_regularisation_rescales_rate_and_betas():
    g = adam_config.AdamConfig(lr=0.0025).for_interval(4)
    d = adam_config.AdamConfig(lr=0.002, beta1=0.5).for_interval(16)
    assert g.lr == pytest.approx(0.0020)
    assert g.beta1 == 0.0
    assert g.beta2 == pytest.approx(0.99199197)
    assert d.lr == pytest.approx(0.00188235, abs=1e-8)
    assert d.beta2 == pytest.approx(0.99058546)
    assert d.beta1 == pytest.approx(0.5 ** (16 / 17))
    assert g.epsilon == 1e-8
    plain = adam_config.AdamConfig(lr=0.0025)
    assert plain.for_interval(None) == plain


def test_an_inactive_parameter_neither_moves_nor_counts():
    """As in PyTorch, which skips a parameter that got no gradient."""
    config = adam_config.AdamConfig(lr=0.02, beta1=0.5)
    gradients = _gradients(5)
    pattern = [True, False, False, True, True]
    masks = [{"a": {"weight": True, "bias": active}} for active in pattern]
    params, state = _train(config, gradients, masks)
    biases = [
        g["a"]["bias"] if active else None for g, active in zip(gradients, pattern, strict=True)
    ]
    options = {"lr": 0.02, "beta1": 0.5, "beta2": 0.99}
    expected, mean, square, count = reference.adam(0.5, biases, **options)
    np.testing.assert_allclose(params["a"]["bias"], expected, rtol=2e-6)
    np.testing.assert_allclose(state.mean["a"]["bias"], mean, rtol=2e-6)
    np.testing.assert_allclose(state.square["a"]["bias"], square, rtol=2e-6)
    assert int(state.count["a"]["bias"]) == count == 3
    everything, _ = _train(config, gradients)
    np.testing.assert_array_equal(params["a"]["weight"], everything["a"]["weight"])
    assert params["a"]["bias"] != everything["a"]["bias"]


def test_a_zero_gradient_counts_but_does_not_move_without_momentum():
    config = adam_config.AdamConfig(lr=0.02)
    zero = jax.tree.map(np.zeros_like, _PARAMS)
    params, state = _train(config, [*_gradients(1), zero])
    before, first = _train(config, _gradients(1))
    np.testing.assert_array_equal(params["a"]["weight"], before["a"]["weight"])
    np.testing.assert_allclose(
        state.square["a"]["weight"], 0.99 * first.square["a"]["weight"], rtol=1e-6
    )
    assert int(state.count["a"]["weight"]) == 2


def test_warm_up_scales_the_step_only():
    config = adam_config.AdamConfig(lr=0.02)
    full, full_state = _train(config, _gradients(1))
    half, half_state = _train(config, _gradients(1), lr_scale=0.5)
    start = _PARAMS["a"]["weight"]
    np.testing.assert_allclose(
        half["a"]["weight"] - start, 0.5 * (full["a"]["weight"] - start), rtol=1e-5
    )
    np.testing.assert_array_equal(
        half_state.square["a"]["weight"], full_state.square["a"]["weight"]
    )


def test_gradients_are_cleaned():
    dirty = {"a": jnp.array([np.nan, np.inf, -np.inf, 2.0])}
    np.testing.assert_allclose(optimizers.clean(dirty)["a"], [0.0, 1e5, -1e5, 2.0])


def test_names_are_matched_exactly_by_start_or_by_end():
    params = {"b4": {"out": {"bias": 0, "weight": 0}}, "b8": {"out": {"bias": 0}}}
    exact = optimizers.mask_names(params, inactive=("b4.out.bias",))
    assert exact == {"b4": {"out": {"bias": False, "weight": True}}, "b8": {"out": {"bias": True}}}
    start = optimizers.mask_names(params, inactive=("b4.*",))
    assert start == {"b4": {"out": {"bias": False, "weight": False}}, "b8": {"out": {"bias": True}}}
    end = optimizers.mask_names(params, inactive=("*.bias",))
    assert end == {"b4": {"out": {"bias": False, "weight": True}}, "b8": {"out": {"bias": False}}}
    nothing = optimizers.mask_names(params, inactive=("out", "b4"))
    assert all(jax.tree.leaves(nothing))
