import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import rng


def bits(key):
    return tuple(np.ravel(jax.random.key_data(key)).tolist())


def test_streams_differ_by_root_name_and_step_and_by_nothing_else():
    draws = {
        (root, name, step): bits(rng.stream(jax.random.key(root), name, step))
        for root, name, step in itertools.product((0, 1), ("stratified", "noise"), (0, 1, 2))
    }
    assert len(set(draws.values())) == len(draws)
    assert bits(rng.stream(jax.random.key(1), "noise", 2)) == draws[1, "noise", 2]


def test_a_stream_is_the_same_inside_jit_with_a_traced_step(key):
    traced = jax.jit(lambda k, step: rng.stream(k, "noise", step))(key, jnp.int32(5))
    assert bits(traced) == bits(rng.stream(key, "noise", 5))


def test_a_sample_draws_the_same_wherever_it_lies_in_the_batch(key):
    whole = rng.per_sample(key, jnp.arange(8))
    part = rng.per_sample(key, jnp.array([6, 2]))
    assert whole.shape == (8,)
    assert bits(part[0]) == bits(whole[6])
    assert bits(part[1]) == bits(whole[2])
    assert len({bits(k) for k in whole}) == 8


def test_draws_of_neighbouring_steps_and_samples_are_uncorrelated(key):
    steps = jnp.stack([jax.random.normal(rng.stream(key, "z", s), (4096,)) for s in range(3)])
    samples = jax.vmap(lambda k: jax.random.normal(k, (4096,)))(rng.per_sample(key, jnp.arange(3)))
    for draws in (steps, samples):
        correlation = np.corrcoef(draws) - np.eye(3)
        assert np.abs(correlation).max() < 5 / np.sqrt(4096)
