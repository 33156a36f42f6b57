"""Max pooling equals the library's, its gradient too, ties included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.ops import pooling


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("side", [7, 8])
def test_pooling_equals_the_library_and_gives_ties_to_the_first(window, side):
    draws = np.random.default_rng(0)
    x = jnp.asarray(np.round(draws.normal(size=(2, side, side + 1, 3))), jnp.float32)

    def ours(x):
        columns = pooling.max_pool_axis(x, axis=2, window=window)
        return pooling.max_pool_axis(columns, axis=1, window=window)

    def library(x):
        sizes = (1, window, window, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, sizes, (1, 2, 2, 1), "VALID")

    @jax.jit
    def both(x, cotangent):
        found = [jax.vjp(form, x) for form in (ours, library)]
        return [(value, pull_back(cotangent)[0]) for value, pull_back in found]

    shape = jax.eval_shape(library, x).shape
    (value, gradient), (expected, expected_gradient) = both(
        x, jnp.asarray(draws.normal(size=shape), jnp.float32)
    )
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)
