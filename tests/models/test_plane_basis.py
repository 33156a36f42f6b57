"""Planes that lie on a curved sheet are made again from a few components."""

import numpy as np
import pytest

from ganavatar_jax.models import plane_basis

DRAWS = np.random.default_rng(0)
SHEET = DRAWS.normal(size=(6, 3, 4, 4, 2))  # mean, two directions, their squares and product
W = DRAWS.normal(size=(60, 2)).astype(np.float32) @ DRAWS.normal(size=(2, 5)).astype(np.float32)


def make_planes(w):
    x = w @ np.linalg.pinv(W[:2]) @ np.eye(2)
    a, b = x[:, :1], x[:, 1:]
    return np.tensordot(np.hstack([1 + 0 * a, a, b, a * a, b * b, a * b]), SHEET, axes=1)


def error(found, w):
    expected = make_planes(w)
    return np.abs(found.planes(w) - expected).max() / expected.std()


def test_planes_on_a_quadratic_sheet_are_found_to_a_byte():
    found = plane_basis.fit(W[:50], make_planes, components=5, directions=2)
    assert found.kept == pytest.approx(1.0, abs=1e-6)
    assert error(found, W[50:]) < 0.05
    assert found.components.dtype == np.int8


def test_fewer_components_hold_less():
    whole = plane_basis.fit(W, make_planes, components=5, directions=2)
    part = plane_basis.fit(W, make_planes, components=1, directions=2)
    assert part.kept < whole.kept
    assert error(part, W) > error(whole, W)
    assert whole.first(2).components.shape[0] == whole.first(2).weights(W).shape[1] == 2


def test_texels_that_nobody_looks_at_are_zero():
    used = np.zeros((3, 4, 4), bool)
    used[1, 2:] = True
    found = plane_basis.fit(W, make_planes, components=5, directions=2, used=used)
    assert not found.planes(W)[:, ~used].any()
    expected = make_planes(W)[:, used]
    np.testing.assert_allclose(found.planes(W)[:, used], expected, atol=0.05 * expected.std())


def test_one_latent_is_too_few():
    with pytest.raises(ValueError, match="at least two latents"):
        plane_basis.fit(W[:1], make_planes, components=1)
