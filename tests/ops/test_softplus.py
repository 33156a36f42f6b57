"""softplus equals its definition to a rounding, everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.ops import softplus


def _everywhere():
    near = np.linspace(-20.0, 20.0, 40_001)
    return np.concatenate([near, [0.0, -0.0, -80.0, 80.0, 1e4, 1e-30]]).astype(np.float32)


def test_values_are_exact_to_two_roundings_however_small():
    x = _everywhere()
    exact = np.logaddexp(np.float64(0.0), x.astype(np.float64))
    found = np.asarray(jax.jit(softplus.softplus)(x), np.float64)
    library = np.asarray(jax.jit(jax.nn.softplus)(x), np.float64)
    error = np.abs(found / exact - 1.0)
    assert error.max() <= max(2.0 * np.finfo(np.float32).eps, np.abs(library / exact - 1.0).max())


def test_infinities_and_not_a_number_stay_what_they_are():
    found = softplus.softplus(jnp.array([jnp.inf, -jnp.inf, jnp.nan]))
    np.testing.assert_array_equal(found, [np.inf, 0.0, np.nan])


def test_the_gradient_is_the_sigmoid_and_has_a_gradient():
    x = jnp.asarray(_everywhere())
    first = jax.jit(jax.vmap(jax.grad(softplus.softplus)))(x)
    np.testing.assert_allclose(first, jax.nn.sigmoid(x), rtol=1e-6)
    second = jax.vmap(jax.grad(jax.grad(softplus.softplus)))(x)
    np.testing.assert_allclose(second, first * (1.0 - first), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_the_precision_is_kept(dtype):
    assert softplus.softplus(jnp.ones(3, dtype)).dtype == dtype
