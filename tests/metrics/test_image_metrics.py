import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics

from ganavatar_jax.metrics import image

ssim = jax.jit(image.ssim)


@pytest.fixture(scope="module")
def pair():
    generator = np.random.default_rng(0)
    target = generator.uniform(size=(3, 24, 31, 3))
    noisy = np.clip(
        target + generator.normal(scale=[[[[0.05]]], [[[0.2]]], [[[0.4]]]] * np.ones_like(target)),
        0.0,
        1.0,
    )
    return jnp.asarray(noisy, jnp.float32), jnp.asarray(target, jnp.float32)


def test_l2_and_psnr_equal_skimage(pair):
    noisy, target = map(np.asarray, pair)
    for index in range(len(target)):
        expected = skimage.metrics.mean_squared_error(target[index], noisy[index])
        np.testing.assert_allclose(image.l2(*pair)[index], expected, rtol=1e-6)
        expected = skimage.metrics.peak_signal_noise_ratio(
            target[index], noisy[index], data_range=1.0
        )
        np.testing.assert_allclose(image.psnr(*pair)[index], expected, rtol=1e-6)


def test_ssim_equals_skimage_with_a_gaussian_window(pair):
    noisy, target = map(np.asarray, pair)
    for index in range(len(target)):
        expected = skimage.metrics.structural_similarity(
            target[index],
            noisy[index],
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=-1,
        )
        np.testing.assert_allclose(ssim(*pair)[index], expected, atol=2e-5)


def test_psnr_and_ssim_equal_dm_pix(pair):
    np.testing.assert_allclose(image.psnr(*pair), dm_pix.psnr(*pair), rtol=1e-5)
    np.testing.assert_allclose(ssim(*pair), dm_pix.ssim(*pair), atol=2e-5)


def test_equal_images_are_perfect(pair):
    _, target = pair
    assert np.all(image.l2(target, target) == 0.0)
    assert np.all(np.isposinf(image.psnr(target, target)))
    np.testing.assert_allclose(ssim(target, target), 1.0, atol=1e-6)


def test_more_noise_is_worse_in_every_metric(pair):
    assert np.all(np.diff(image.l2(*pair)) > 0)
    assert np.all(np.diff(image.psnr(*pair)) < 0)
    assert np.all(np.diff(ssim(*pair)) < 0)


@pytest.mark.parametrize("metric", [image.l2, image.psnr, image.ssim])
def test_batches_and_jit_change_nothing(metric, pair):
    expected = [metric(a, b) for a, b in zip(*pair, strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(metric))(*pair), expected, rtol=1e-5)
    nested = jax.jit(metric)(*(x[:, None] for x in pair))
    assert nested.shape == (3, 1)
    np.testing.assert_allclose(nested[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_ssim_gradients_are_finite_on_constant_and_equal_images(level):
    flat = jnp.full((1, 12, 12, 3), level)
    gradient = jax.jit(jax.grad(lambda x, y: image.ssim(x, y).sum()))(flat, flat)
    assert np.all(np.isfinite(gradient))


def test_wrong_inputs_are_refused():
    small = jnp.zeros((1, 10, 16, 3))
    with pytest.raises(ValueError, match="at least 11 x 11"):
        image.ssim(small, small)
    with pytest.raises(ValueError, match="equal shape"):
        image.l2.__wrapped__(jnp.zeros((4, 4, 3)), jnp.zeros((1, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"float images in \[0, 1\]; got uint8"):
        image.l2.__wrapped__(*[jnp.zeros((4, 4, 3), jnp.uint8)] * 2)
