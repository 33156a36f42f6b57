"""Factors of channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.ops import channels
from helpers import compare


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 3), (6, 10), (32, 32)])
def test_the_gradient_of_factors_sums_over_places(height, width):
    draws = np.random.default_rng(0)
    x, direction = draws.normal(size=(2, 2, height, width, 3)).astype(np.float32)
    factors = draws.normal(size=(2, 3)).astype(np.float32)

    @jax.jit
    def gradients(x, factors):
        return jax.vjp(channels.scale_channels, x, factors)[1](jnp.asarray(direction))

    for_x, for_factors = gradients(x, factors)
    np.testing.assert_array_equal(for_x, direction * factors[:, None, None])
    expected = np.sum(x.astype(np.float64) * direction, axis=(1, 2))
    compare.assert_parity(for_factors, expected, limit=compare.LIMITS["layer"], name="factors")
