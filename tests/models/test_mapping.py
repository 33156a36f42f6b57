"""The mapping network: conditioning, truncation, running average."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.models import generator, generator_config, mapping
from helpers import compiled

_FREE = generator_config.GeneratorConfig.tiny()
_POSED = dataclasses.replace(_FREE, condition_on_camera=True)


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


@pytest.fixture(scope="module")
def variables():
    """The mapping's variables alone, under their names in the generator; no bias is zero."""
    module = mapping.Mapping(16, 2, has_latent=True, has_average=True)
    z, label = jnp.zeros((1, 16)), jnp.zeros((1, 25))
    tree = jax.jit(module.init)(jax.random.key(0), z, label)
    tree = jax.tree.map(lambda p: p + 0.3, tree)
    return {name: {"backbone": {"mapping": part}} for name, part in tree.items()}


def _inputs():
    return jax.random.normal(jax.random.key(1), (3, 16)), jax.random.normal(
        jax.random.key(2), (3, 25)
    )


def _map(variables, z, label, config):
    return jax.jit(lambda *a: generator.map_latent(*a, config))(variables, z, label)


def test_the_layers_follow_the_definition(variables):
    z, label = _inputs()
    tree = jax.tree.map(lambda a: np.asarray(a, np.float64), variables)
    p = tree["params"]["backbone"]["mapping"]
    norm = lambda x: x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-8)  # noqa: E731
    embedded = np.asarray(label) @ p["embed"]["weight"] * 0.2 + p["embed"]["bias"]
    x = np.concatenate([norm(np.asarray(z, np.float64)), norm(embedded)], axis=-1)
    for name in ("fc0", "fc1"):
        x = x @ (p[name]["weight"] * 0.01 / np.sqrt(x.shape[-1])) + 0.01 * p[name]["bias"]
        x = np.where(x >= 0, x, 0.2 * x) * np.sqrt(2)  # the last layer too
    np.testing.assert_allclose(_map(variables, z, label, _POSED), x, atol=1e-5)


def test_without_conditioning_the_label_does_not_matter_and_gets_no_gradient(variables):
    z, label = _inputs()

    def total(params, z, label, config):
        w = generator.map_latent(variables | {"params": params}, z, label, config)
        return jnp.sum(jnp.tanh(w)), w

    gradient = jax.jit(jax.grad(total, has_aux=True), static_argnums=3)
    for config, matters in ((_FREE, False), (_POSED, True)):
        gradients, w = gradient(variables["params"], z, label, config)
        _, other = gradient(variables["params"], z, label[::-1], config)
        assert np.array_equal(w, other) != matters
        part = gradients["backbone"]["mapping"]
        # Exactly zero, so that Adam leaves it alone; its bias and the layers still train.
        assert np.any(part["embed"]["weight"]) == matters
        assert np.any(part["embed"]["bias"])
        assert np.any(part["fc0"]["weight"])


def test_the_condition_scale_multiplies_the_label(variables):
    z, label = _inputs()
    doubled = dataclasses.replace(_POSED, condition_scale=2.0)
    actual = _map(variables, z, label, doubled)
    np.testing.assert_allclose(actual, _map(variables, z, 2.0 * label, _POSED), atol=1e-6)


def test_truncation_pulls_the_first_rows_towards_the_average():
    ws = jax.random.normal(jax.random.key(3), (2, 5, 4))
    average = jnp.arange(4.0)
    assert mapping.truncate(ws, average, psi=1.0) is ws
    np.testing.assert_allclose(
        mapping.truncate(ws, average, psi=0.0), jnp.broadcast_to(average, ws.shape)
    )
    half = mapping.truncate(ws, average, psi=0.5, cutoff=2)
    np.testing.assert_array_equal(half[:, 2:], ws[:, 2:])
    np.testing.assert_allclose(half[:, :2], 0.5 * (ws[:, :2] + average[None, None]), atol=1e-6)
    np.testing.assert_array_equal(
        mapping.truncate(ws, average, psi=0.3), mapping.truncate(ws, average, psi=0.3, cutoff=5)
    )


def test_the_average_moves_by_two_thousandths():
    w = jnp.array([[1.0, 2.0], [3.0, 6.0]])
    moved = mapping.update_average(jnp.zeros(2), w)
    np.testing.assert_allclose(moved, [0.004, 0.008], rtol=1e-4)
    np.testing.assert_allclose(mapping.update_average(jnp.array([2.0, 4.0]), w), [2.0, 4.0])


def test_broadcasting_repeats_w_for_every_layer():
    w = jnp.arange(32.0).reshape(2, 16)
    ws = generator.broadcast(w, _FREE)
    assert ws.shape == (2, _FREE.num_ws, 16)
    assert all(np.array_equal(ws[:, k], w) for k in range(_FREE.num_ws))
