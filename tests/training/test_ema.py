"""The averaged generator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.training import ema


def test_the_average_forgets_half_in_its_half_life():
    options = {"batch_size": 32, "ema_kimg": 10.0, "current_images": 1e9, "rampup": None}
    decay = ema.ema_decay(**options)
    assert decay == pytest.approx(0.99778439, abs=1e-8)
    assert decay ** (10_000 / 32) == pytest.approx(0.5)


def test_the_ramp_up_shortens_the_half_life_early_on():
    options = {"batch_size": 32, "ema_kimg": 10.0, "rampup": 0.05}
    assert ema.ema_decay(current_images=0, **options) == 0.0
    early = ema.ema_decay(current_images=20_000, **options)
    assert early == pytest.approx(0.5 ** (32 / 1000))
    late = ema.ema_decay(current_images=1e6, **options)
    assert late == ema.ema_decay(current_images=0, **(options | {"rampup": None}))


@pytest.mark.parametrize("decay", [0.0, 0.25, 1.0])
def test_parameters_are_interpolated_and_buffers_copied(decay):
    average = {"params": {"w": jnp.array([0.0, 4.0])}, "buffers": {"w_avg": jnp.zeros(2)}}
    current = {"params": {"w": jnp.array([8.0, 0.0])}, "buffers": {"w_avg": jnp.ones(2)}}
    moved = ema.update(average, current, decay)
    np.testing.assert_allclose(moved["params"]["w"], [8 * (1 - decay), 4 * decay])
    np.testing.assert_array_equal(moved["buffers"]["w_avg"], [1.0, 1.0])


def test_a_decay_of_one_leaves_every_bit_and_of_zero_copies_exactly():
    draws = np.random.default_rng(0)
    old, new = (
        np.r_[draws.normal(size=10_000), -0.0, 1e30, np.inf].astype(np.float32) for _ in range(2)
    )
    move = jax.jit(ema.update)
    average, current = ({"params": {"w": jnp.asarray(x)}, "buffers": {}} for x in (old, new))
    kept = move(average, current, jnp.float32(1.0))["params"]["w"]
    copied = move(average, current, jnp.float32(0.0))["params"]["w"]
    assert np.asarray(kept).tobytes() == old.tobytes()
    assert np.asarray(copied).tobytes() == new.tobytes()


def test_an_average_that_has_arrived_stays_there():
    value = {"params": {"w": jnp.float32(1.0) / 3}, "buffers": {}}
    for decay in (0.1, 0.99778439, 0.999):
        assert ema.update(value, value, decay)["params"]["w"] == value["params"]["w"]
