"""Training losses against NumPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.losses import adversarial, density, density_config, r1
from helpers import compiled


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


def _draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Adversarial.


def test_adversarial_losses_are_mean_softplus():
    fake, real = 3.0 * _draw(0, 5, 1), 3.0 * _draw(1, 5, 1)
    softplus = lambda x: np.log1p(np.exp(np.asarray(x, np.float64)))  # noqa: E731
    expected = softplus(-fake).mean()
    assert float(adversarial.generator_loss(jnp.asarray(fake))) == pytest.approx(expected, rel=1e-6)
    expected = softplus(fake).mean() + softplus(-real).mean()
    actual = adversarial.discriminator_loss(jnp.asarray(fake), jnp.asarray(real))
    assert float(actual) == pytest.approx(expected, rel=1e-6)


def test_an_undecided_discriminator_costs_two_bits_in_nats():
    zero = jnp.zeros((4, 1))
    assert float(adversarial.generator_loss(zero)) == pytest.approx(np.log(2), rel=1e-6)
    assert float(adversarial.discriminator_loss(zero, zero)) == pytest.approx(
        2 * np.log(2), rel=1e-6
    )


def test_adversarial_losses_push_in_opposite_directions_and_stay_finite():
    logits = jnp.array([[-1e4], [-1.0], [1.0], [1e4]])
    g = jax.grad(adversarial.generator_loss)(logits)
    fake, real = jax.grad(adversarial.discriminator_loss, (0, 1))(logits, logits)
    assert (g <= 0).all()
    assert (fake >= 0).all()
    assert (real <= 0).all()
    for gradient in (g, fake, real):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() == pytest.approx(0.25)  # a quarter of the batch each


# R1.


def test_r1_of_a_linear_critic_is_its_squared_weight_norm():
    by_image, by_raw = _draw(2, 4, 4, 3), _draw(3, 2, 2, 3)

    def critic(image, raw):
        value = jnp.tensordot(image, jnp.asarray(by_image), 3)
        return (value + jnp.tensordot(raw, jnp.asarray(by_raw), 3) + 5.0)[:, None]

    image, raw = jnp.asarray(_draw(4, 3, 4, 4, 3)), jnp.asarray(_draw(5, 3, 2, 2, 3))
    penalty = jax.jit(lambda i, r: r1.r1_penalty(critic, i, r))(image, raw)
    expected = np.sum(np.square(by_image)) + np.sum(np.square(by_raw))
    np.testing.assert_allclose(penalty, np.full(3, expected), rtol=1e-5)


def test_r1_is_one_number_a_sample_and_can_be_trained_on():
    image, raw = jnp.asarray(_draw(6, 2, 2, 2, 3)), jnp.asarray(_draw(7, 2, 2, 2, 3))

    def loss(scale):
        critic = lambda i, r: scale * jnp.sum(i**2 + r**3, axis=(1, 2, 3))[:, None]  # noqa: E731
        penalty = r1.r1_penalty(critic, image, raw)
        return jnp.sum(penalty), penalty

    gradient, penalty = jax.jit(jax.grad(loss, has_aux=True))(2.0)
    i, r = np.asarray(image, np.float64), np.asarray(raw, np.float64)
    expected = np.sum((4 * i) ** 2 + (6 * r**2) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(penalty, expected, rtol=1e-5)
    assert float(gradient) == pytest.approx(expected.sum(), rel=1e-5)  # d(scale^2) = 2 scale, at 2


# Density.


def _draws(kind):
    front = None if kind == "l1" else jnp.asarray(_draw(10, 2, 7, 3))
    return density.DensityDraws(
        points=jnp.asarray(_draw(8, 2, 5, 3)), offsets=jnp.asarray(_draw(9, 2, 5, 3)), front=front
    )


def _field(p, slope):
    return slope * (p[..., 0] * p[..., 1] - p[..., 2] ** 2)


@pytest.mark.parametrize("kind", ["l1", "monotonic-detach", "monotonic-fixed"])
def test_density_losses_equal_numpy(kind):
    config = density_config.DensityConfig(weight=0.5, kind=kind, perturbation=0.05)
    box = 1.6

    def loss(slope, draws):
        return density.density_loss(lambda p: _field(p, slope), draws, config, box_warp=box)

    draws = _draws(kind)
    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.float32(3.0), draws)
    points, offsets = (np.asarray(x, np.float64) for x in (draws.points, draws.offsets))
    step = box / 256
    scale = 0.05 if kind == "l1" else step
    smoothness = np.abs(_field(points, 3.0) - _field(points + scale * offsets, 3.0)).mean()
    expected, slope = smoothness, smoothness / 3.0
    if kind != "l1":
        front = np.asarray(draws.front, np.float64)
        behind = front - np.array([0.0, 0.0, step])
        rise = _field(front, 3.0) - _field(behind, 3.0)
        expected += 10.0 * np.maximum(rise, 0).mean()
        # With the front detached only the density behind is trained.
        moving = _field(front, 1.0) * (kind == "monotonic-fixed") - _field(behind, 1.0)
        slope += 10.0 * np.mean(moving * (rise > 0))
    assert float(value) == pytest.approx(0.5 * expected, rel=1e-4)
    assert float(gradient) == pytest.approx(0.5 * slope, rel=1e-4)


def test_a_constant_field_costs_nothing():
    for kind in ("l1", "monotonic-fixed"):
        config = density_config.DensityConfig(kind=kind)
        flat = lambda p: jnp.ones(p.shape[:-1])  # noqa: E731
        assert float(density.density_loss(flat, _draws(kind), config, box_warp=1.0)) == 0.0


def test_points_are_uniform_in_the_cube_of_side_two_and_keyed_by_sample():
    config = density_config.DensityConfig(kind="monotonic-fixed")
    make = jax.jit(lambda ids: density.make_draws(jax.random.key(0), ids, config))
    draws, other = make(jnp.array([3, 9])), make(jnp.array([9, 3]))
    assert draws.points.shape == draws.offsets.shape == (2, 1000, 3)
    assert draws.front.shape == (2, 2000, 3)
    for name in ("points", "offsets", "front"):
        value = getattr(draws, name)
        np.testing.assert_array_equal(value, getattr(other, name)[::-1])
        assert np.abs(value[0] - value[1]).max() > 0.1
    for value in (draws.points, draws.front):
        assert np.abs(value).max() <= 1.0  # whatever the box is (quirk Q8)
        np.testing.assert_allclose(np.std(value, axis=(0, 1)), 1 / np.sqrt(3), rtol=0.05)
    np.testing.assert_allclose(np.std(draws.offsets), 1.0, rtol=0.05)
    assert (
        density.make_draws(jax.random.key(0), jnp.arange(1), density_config.DensityConfig()).front
        is None
    )
