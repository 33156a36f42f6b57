"""Inception features against torchvision's network, and the FID's own conventions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.metrics import frechet, inception
from helpers import compare


def _random_weights(shapes):
    """Weights with which activations neither die nor explode."""
    rng = np.random.default_rng(0)
    found = {}
    for name, shape in shapes.items():
        if len(shape) == 4:
            scale = np.float32(np.sqrt(2.0 / np.prod(shape[1:])))
            found[name] = rng.standard_normal(shape, np.float32) * scale
        elif name.endswith(("running_var", "bn.weight")):
            found[name] = np.float32(0.5) + rng.random(shape, np.float32)
        else:
            found[name] = np.float32(0.1) * rng.standard_normal(shape, np.float32)
    return found


def test_the_network_has_the_published_number_of_parameters():
    shapes = inception.expected_shapes()
    learned = [shape for name, shape in shapes.items() if "running" not in name]
    # 23,834,568 without the auxiliary classifier, 2,049,000 of them in the classifier.
    assert sum(map(np.prod, learned)) == 23_834_568 - 2_049_000


def test_mean_pooling_does_not_count_the_padding():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    pooled = inception._pool(x, "mean")[0, :, :, 0]
    np.testing.assert_allclose(pooled[0, 0], np.mean([0, 1, 3, 4]))
    np.testing.assert_allclose(pooled[1, 2], np.mean([1, 2, 4, 5, 7, 8]))
    np.testing.assert_allclose(pooled[1, 1], 4.0)
    np.testing.assert_array_equal(inception._pool(x, "max")[0, :, :, 0][0], [4, 5, 5])


def test_the_fid_uses_unbiased_covariances():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 3))
    features -= features.mean(axis=0)
    first, second = (frechet.from_features(scale * features) for scale in (1.0, 2.0))
    expected = features.var(axis=0, ddof=1).sum()  # (2 - 1)^2 times the total variance
    np.testing.assert_allclose(frechet.fid(first, second), expected, rtol=1e-8)
    with pytest.raises(ValueError, match="fid needs at least 2 images"):
        frechet.fid(frechet.from_features(features[:1]), second)


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **{"Conv2d_1a_3x3.conv.weight": np.zeros((32, 3, 3, 2), np.float32)})
    with pytest.raises(errors.WeightError, match=r"conv.weight should have shape \(32, 3, 3, 3\)"):
        inception.load_params(path)


@pytest.mark.slow
def test_features_equal_torchvisions_with_the_pooling_of_the_fid(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    functional = torch.nn.functional
    network = torchvision.models.inception_v3(weights=None, init_weights=False).eval()
    stored = network.state_dict()
    weights = _random_weights(inception.expected_shapes())
    assert {name for name in stored if not inception.is_left_out(name)} == weights.keys()
    for name, value in weights.items():
        stored[name].copy_(torch.from_numpy(value))
    average, maximum, last = functional.avg_pool2d, functional.max_pool2d, [False]

    def pool(x, **options):
        if last[0]:
            return maximum(x, kernel_size=3, stride=1, padding=1)
        return average(x, **options, count_include_pad=False)

    monkeypatch.setattr(functional, "avg_pool2d", pool)
    network.Mixed_7c.register_forward_pre_hook(lambda *_: last.__setitem__(0, True))
    features = []
    network.avgpool.register_forward_hook(lambda m, i, out: features.append(out.flatten(1)))
    image = np.random.default_rng(1).random((2, 64, 80, 3), np.float32) * 2 - 1
    with torch.no_grad():
        x = torch.from_numpy(np.moveaxis(image, -1, 1).copy())
        network(functional.interpolate(x, size=(299, 299), mode="bilinear"))
    np.savez(tmp_path / "x.npz", **weights)
    params = inception.load_params(tmp_path / "x.npz")
    actual = jax.jit(inception.features)(params, jnp.asarray(image))
    compare.assert_parity(actual, features[0].numpy(), limit=1e-4, name="features")
