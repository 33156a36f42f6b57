"""The shapes in the package's signatures are enforced while tests run."""

import jax.numpy as jnp
import jaxtyping
import pytest

from ganavatar_jax.geometry import boxes


def test_arrays_that_do_not_fit_together_are_refused_at_the_call():
    with pytest.raises(jaxtyping.TypeCheckError, match="directions"):
        boxes.intersect_cube(jnp.zeros((2, 3)), jnp.ones((4, 3)), side=1.0)


def test_an_int_serves_as_a_float():
    assert boxes.intersect_cube(jnp.zeros((2, 3)), jnp.ones((2, 3)), side=1)[2].all()
