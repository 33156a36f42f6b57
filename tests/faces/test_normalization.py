"""Code normalisation: statistics, inversion, noise limits and storage."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.faces import normalization

NAMES = ("jawOpen", "eyeBlinkLeft", "mouthSmileLeft", "cheekPuff")


def map_back(normalizer, normalized):
    return normalized @ normalizer.backward + normalizer.mean


@pytest.fixture
def codes():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4)) * [[0.3], [0.1], [0.2], [0.1]]
    return (rng.normal(size=(200, 4)) @ mixing + 0.3).astype(np.float32)


@pytest.mark.parametrize("method", ["standardize", "pca"])
def test_normalised_codes_have_unit_spread_and_map_back(codes, method):
    normalizer = normalization.fit(codes, NAMES, method=method)
    normalized = normalizer.apply(codes)
    np.testing.assert_allclose(normalized.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(normalized.std(axis=0), 1.0, atol=1e-3)
    np.testing.assert_allclose(map_back(normalizer, normalized), codes, atol=1e-5)


def test_whitened_components_are_uncorrelated(codes):
    normalized = normalization.fit(codes, NAMES, method="pca").apply(codes)
    np.testing.assert_allclose(np.cov(normalized.T, bias=True), np.eye(4), atol=1e-3)


def test_fewer_components_keep_the_largest_spread(codes):
    normalizer = normalization.fit(codes, NAMES, method="pca", components=2)
    assert normalizer.apply(codes).shape == (200, 2)
    error = ((map_back(normalizer, normalizer.apply(codes)) - codes) ** 2).sum()
    variances = np.linalg.svd(codes - codes.mean(axis=0), compute_uv=False) ** 2
    assert error == pytest.approx(variances[2:].sum(), rel=1e-3)


@pytest.mark.parametrize("method", ["standardize", "pca"])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_constant_coefficients_and_few_frames_are_not_blown_up(method, count):
    codes = np.zeros((count, 4), np.float32)
    codes[:, 0] = np.linspace(0, 1e-4, count)
    normalizer = normalization.fit(codes, NAMES, method=method, min_std=0.01)
    normalized = normalizer.apply(codes)
    assert np.abs(normalized).max() <= 0.01 + 1e-6
    np.testing.assert_allclose(map_back(normalizer, normalized), codes, atol=1e-6)


def test_traced_jax_arrays_with_any_batch_shape_are_normalised_alike(codes):
    normalizer = normalization.fit(codes, NAMES)
    batch = jnp.asarray(codes).reshape(10, 20, 4)
    normalized = jax.jit(jax.vmap(normalizer.apply))(batch)
    np.testing.assert_allclose(normalized.reshape(200, 4), normalizer.apply(codes), atol=1e-4)


def test_json_keeps_a_normaliser_exactly(codes):
    normalizer = normalization.fit(codes, NAMES, method="pca", components=3)
    copy = normalization.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    assert copy.names == NAMES
    np.testing.assert_array_equal(copy.mean, normalizer.mean)
    np.testing.assert_array_equal(copy.forward, normalizer.forward)
    np.testing.assert_array_equal(copy.backward, normalizer.backward)


@pytest.mark.parametrize("method", ["none", "standardize", "pca"])
def test_statistics_are_those_of_the_codes_whatever_the_map(codes, method):
    codes = codes * [1.0, 0.01, 1.0, 1.0]  # the second hardly varies
    normalizer = normalization.fit(codes, NAMES, method=method)
    stored = normalization.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    for copy in (normalizer, stored):
        known = copy.require_statistics()
        np.testing.assert_allclose(known.mean, codes.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(known.std, codes.std(axis=0), rtol=1e-4)
        np.testing.assert_allclose(copy.std, known.std)
        spread = copy.apply(codes).std(axis=0)
        np.testing.assert_allclose(known.normalized_std, spread, rtol=1e-3, atol=1e-5)


def test_dropped_components_do_not_shrink_the_spread_that_is_told(codes):
    normalizer = normalization.fit(codes, NAMES, method="pca", components=1)
    np.testing.assert_allclose(normalizer.std, codes.std(axis=0), rtol=1e-4)


@pytest.mark.parametrize("method", ["none", "standardize", "pca"])
def test_a_limit_counts_spreads_of_the_codes_around_their_mean(codes, method):
    normalizer = normalization.fit(codes, NAMES, method=method)
    np.testing.assert_allclose(
        normalizer.limit(normalizer.apply(codes), 10.0), normalizer.apply(codes)
    )
    far = codes.mean(axis=0) + 50.0 * codes.std(axis=0) * [1, -1, 1, -1]
    cut = normalizer.limit(normalizer.apply(far[None].astype(np.float32)), 3.0)
    if method == "pca":
        assert np.abs(cut).max() == pytest.approx(3.0, rel=1e-5)
    else:
        edge = cut @ normalizer.backward + normalizer.mean
        away = (edge - codes.mean(axis=0)) / codes.std(axis=0)
        np.testing.assert_allclose(away[0], [3, -3, 3, -3], rtol=1e-3)


def test_maps_from_before_statistics_were_stored_still_tell_them(codes):
    values = normalization.fit(codes, NAMES).to_dict()
    old = {key: values[key] for key in ("names", "mean", "forward", "backward")}
    known = normalization.from_dict(old).require_statistics()
    np.testing.assert_allclose(known.mean, codes.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(known.std, codes.std(axis=0), rtol=1e-4)
    np.testing.assert_array_equal(known.normalized_std, np.ones(4))
    raw = normalization.fit(codes, NAMES, method="none").to_dict()
    unknown = normalization.from_dict({key: raw[key] for key in old})
    assert unknown.statistics is None
    np.testing.assert_array_equal(unknown.limit(100 * codes, 3.0), 100 * codes)
    with pytest.raises(errors.ConfigError, match="mean and spread of the codes"):
        unknown.require_statistics()


def test_broken_stored_normalisers_are_refused(codes):
    values = normalization.fit(codes, NAMES).to_dict()
    with pytest.raises(errors.DataFormatError, match="expected statistics of shapes"):
        normalization.from_dict(values | {"code_std": [1.0]})
    with pytest.raises(errors.DataFormatError, match="expected statistics of shapes"):
        normalization.from_dict({k: v for k, v in values.items() if k != "code_mean"})
    with pytest.raises(errors.DataFormatError, match="'mean'.* missing"):
        normalization.from_dict({k: v for k, v in values.items() if k != "mean"})
    with pytest.raises(errors.DataFormatError, match=r"expected mean \[3\]"):
        normalization.from_dict(values | {"names": NAMES[:3]})


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (np.full((5, 4), np.nan), {}, "Keep only rows that were found"),
        (np.zeros((5, 3)), {}, "one column per name"),
        (np.zeros((0, 4)), {}, "finite codes"),
        (np.zeros((5, 4)), {"components": 2}, 'method "pca" only'),
        (np.zeros((5, 4)), {"components": 5, "method": "pca"}, r"components in 1\.\.4"),
        (np.zeros((5, 4)), {"min_std": 0.0}, "min_std > 0"),
    ],
)
def test_unusable_input_is_refused(rows, options, message):
    with pytest.raises(ValueError, match=message):
        normalization.fit(rows.astype(np.float32), NAMES, **options)
