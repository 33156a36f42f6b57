"""Features of world points from three planes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.rendering import triplane
from helpers import compare, compiled, reference


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


@pytest.mark.parametrize(
    ("axes", "third"),
    [
        ("original", [[23.8, 32.8], [5, 6.8], [6.5, 8.75]]),
        ("fixed", [[21.1, 30.1], [22, 31], [6.5, 8.75]]),
    ],
)
def test_lookup_known_answer(axes, third):
    # The planes called 1 and 2, two channels of 3 x 3 texels each, each alone beside empty ones.
    two = jnp.moveaxis(jnp.arange(36.0).reshape(2, 2, 3, 3), 1, -1)
    alone = jnp.stack([jnp.zeros((3, 3, 3, 2)).at[k].set(two[k - 1]) for k in (1, 2)])
    points = jnp.array([[[0.1, -0.2, 0.3], [0.6, 0.0, 0.0], [0.5, 0.5, 0.5]]])
    look = jax.jit(lambda *a: triplane.lookup(*a, axes=axes, box_warp=1.0))
    found = 3.0 * look(alone, jnp.repeat(points, 2, axis=0))  # the mean of one and two zeros
    np.testing.assert_allclose(found[0], [[7, 16], [1, 2.8], [2, 4.25]], atol=1e-5)
    np.testing.assert_allclose(found[1], third, atol=1e-5)


@pytest.mark.parametrize(
    ("axes", "columns", "rows"),
    [("original", (0, 0, 2), (1, 2, 0)), ("fixed", (0, 0, 2), (1, 2, 1))],
)
def test_each_plane_shows_its_two_world_axes(axes, columns, rows):
    """Columns follow u, rows follow v: a step along each axis moves the coordinate it should."""
    points = jnp.eye(3)[None] * 0.25
    projected = np.asarray(triplane.project(points, axes=axes, box_warp=0.5))[0]
    for plane, (column, row) in enumerate(zip(columns, rows, strict=True)):
        expected = np.zeros((3, 2))
        expected[column, 0] = expected[row, 1] = 1.0
        np.testing.assert_allclose(projected[plane], expected)


def test_lookup_equals_the_loop_over_planes_and_samples():
    draws = np.random.default_rng(0)
    planes = draws.normal(size=(2, 3, 4, 4, 2)).astype(np.float32)
    points = draws.uniform(-0.9, 0.9, size=(2, 11, 3)).astype(np.float32)
    actual = jax.jit(lambda *a: triplane.lookup(*a, axes="fixed", box_warp=1.4))(planes, points)
    uv = [(0, 1), (0, 2), (2, 1)]
    expected = [
        [
            [reference.grid_sample(plane, p[a] / 0.7, p[b] / 0.7) for p in points[sample]]
            for plane, (a, b) in zip(planes[sample], uv, strict=True)
        ]
        for sample in range(2)
    ]
    mean = np.array(expected).mean(axis=1)
    compare.assert_parity(actual, mean, limit=5e-5, name="lookup")


def test_features_fade_to_zero_within_half_a_texel_outside_the_cube():
    planes = jnp.ones((1, 3, 4, 4, 1))
    x = jnp.array([0.0, 0.5, 0.5 + 0.0625, 0.5 + 0.125, 0.9])  # a texel is a quarter of the side
    points = jnp.stack([x, jnp.zeros(5), jnp.zeros(5)], axis=-1)[None]
    found = triplane.lookup(planes, points, axes="fixed", box_warp=1.0)
    faded = np.array([1.0, 0.5, 0.25, 0.0, 0.0])
    np.testing.assert_allclose(found[0, :, 0], (2.0 * faded + 1.0) / 3.0, atol=1e-6)  # one has no x


def test_gradients_reach_planes_and_points():
    planes, points = jnp.ones((1, 3, 4, 4, 2)), jnp.full((1, 2, 3), 0.1)

    def total(planes, points):
        return jnp.sum(triplane.lookup(planes, points, axes="fixed", box_warp=1.0))

    for_planes, for_points = jax.jit(jax.grad(total, (0, 1)))(planes, points)
    # Bilinear weights sum to one: each of 2 points and 2 channels hands out one.
    assert float(for_planes.sum()) == pytest.approx(4.0, rel=1e-5)
    np.testing.assert_allclose(for_points, np.zeros((1, 2, 3)), atol=1e-5)  # a constant plane
