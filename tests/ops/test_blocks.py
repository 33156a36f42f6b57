"""Points in blocks: the same numbers, whatever the size of the blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.ops import blocks


def _field(weight, x):
    hidden = jnp.tanh(x @ weight)
    return {"colors": hidden[..., 1:], "density": hidden[..., 0]}


def _draw(count):
    draws = np.random.default_rng(0)
    x, weight = draws.normal(size=(2, count, 3)), draws.normal(size=(3, 5))
    return jnp.asarray(weight, jnp.float32), jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("count", [7, 20, 21], ids=["fewer than a block", "two blocks", "a rest"])
def test_blocks_give_the_values_and_gradients_of_the_whole(count, monkeypatch):
    monkeypatch.setattr(blocks, "CPU_POINTS", 20)
    weight, x = _draw(count)

    def total(function, weight, x):
        out = function(functools.partial(_field, weight), x)
        assert out["density"].shape == (2, count)
        return jnp.sum(jnp.sin(3.0 * out["colors"])) + jnp.sum(jnp.square(out["density"])), out

    whole = jax.value_and_grad(functools.partial(total, lambda f, x: f(x)), (0, 1), has_aux=True)
    parts = jax.value_and_grad(functools.partial(total, blocks.map_points), (0, 1), has_aux=True)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
        jax.jit(parts)(weight, x),
        jax.jit(whole)(weight, x),
    )


@pytest.mark.parametrize(("count", "points"), [(7, 6), (8, 8), (9, 4), (5, 1), (3, 100)])
def test_joining_undoes_splitting_and_blocks_hold_what_they_may(count, points):
    _, x = _draw(count)
    cut = blocks.split(x, points)
    assert cut.shape[1] * cut.shape[2] <= max(points, 2)  # one point of each of two images
    np.testing.assert_array_equal(blocks.join(cut, count), x)


def test_what_lies_between_does_not_wait_for_the_backward_pass(monkeypatch):
    monkeypatch.setattr(blocks, "CPU_POINTS", 64)
    weight, x = _draw(1024)
    wide = jnp.tile(weight, (1, 40))

    def memory(function):
        loss = lambda w, x: jnp.sum(function(functools.partial(_field, w), x)["density"])  # noqa: E731
        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(wide, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(blocks.map_points) < 0.3 * memory(lambda f, x: f(x))
