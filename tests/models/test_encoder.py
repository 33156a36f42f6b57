"""The image encoder, its probes, and the reversed gradient between them."""

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.models import encoder

_CONFIG = encoder.EncoderConfig(channel_base=64, channel_max=8)


def test_latents_have_root_mean_square_one(key):
    variables = encoder.init(key, _CONFIG, resolution=16, z_dim=6)
    image = jax.random.uniform(key, (3, 16, 16, 3), minval=-1.0)
    z = encoder.apply(variables, image, _CONFIG, z_dim=6)
    np.testing.assert_allclose(jnp.mean(z**2, axis=-1), np.ones(3), rtol=1e-5)
    assert float(jnp.abs(z[0] - z[1]).max()) > 1e-3


def test_probes_beside_the_parameters_do_not_change_the_latents(key):
    variables = encoder.init(key, _CONFIG, resolution=16, z_dim=6)
    image = jax.random.uniform(key, (1, 16, 16, 3))
    probe = encoder.init_probe(key, z_dim=6, features=2)
    beside = {**variables, "probes": {"camera": probe}}
    plain = encoder.apply(variables, image, _CONFIG, z_dim=6)
    np.testing.assert_array_equal(encoder.apply(beside, image, _CONFIG, z_dim=6), plain)
    assert encoder.apply_probe(probe, plain, features=2).shape == (1, 2)


def test_a_reversed_gradient_keeps_values_and_turns_round(key):
    z = jax.random.normal(key, (2, 5))
    np.testing.assert_array_equal(encoder.reverse_gradient(z, 0.3), z)
    weight = jnp.arange(10.0).reshape(2, 5)
    plain = jax.grad(lambda x: jnp.sum(weight * x**2))(z)
    turned = jax.grad(lambda x: jnp.sum(weight * encoder.reverse_gradient(x, 0.3) ** 2))(z)
    np.testing.assert_allclose(turned, -0.3 * plain, rtol=1e-4, atol=1e-6)
