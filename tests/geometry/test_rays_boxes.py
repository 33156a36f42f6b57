"""Rays through pixel centres, and where they meet the cube."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.geometry import boxes, cameras, rays
from helpers import compare, compiled

_DOWN = (0.0, 0.0, -1.0)


@pytest.fixture(autouse=True)
def _quick():
    with compiled.quickly():
        yield


def _cube(origin, direction, side=1.0):
    o, d = (jnp.asarray(v, jnp.float32).reshape(1, 3) for v in (origin, direction))
    near, far, hit = boxes.intersect_cube(o, d, side=side)
    return float(near[0]), float(far[0]), bool(hit[0])


def test_pixel_rays_known_answer():
    pose = jnp.eye(4).at[:3, 3].set(jnp.array([1.0, 2.0, 3.0]))
    intrinsics = jnp.array([[4.0, 0.2, 0.45], [0.0, 5.0, 0.55], [0.0, 0.0, 1.0]])
    origins, directions = rays.pixel_rays(pose[None], intrinsics[None], resolution=2)
    np.testing.assert_array_equal(origins[0], np.tile([1.0, 2.0, 3.0], (4, 1)))
    expected = [
        [-0.0468641, -0.0598264, 0.9971082],
        [0.0776251, -0.0597115, 0.9951929],
        [-0.0518884, 0.0399142, 0.9978549],
        [0.0727484, 0.0398621, 0.9965534],
    ]
    np.testing.assert_allclose(directions[0], expected, atol=1e-7)


def test_points_on_a_ray_project_back_to_the_centre_of_its_pixel():
    pose = cameras.look_at(1.8, 1.4, pivot=(0.0, 0.1, 0.2), radius=2.7)
    intrinsics = jnp.array([[4.0, 0.2, 0.45], [0.0, 5.0, 0.55], [0.0, 0.0, 1.0]])
    origins, directions = rays.pixel_rays(pose[None], intrinsics[None], resolution=4)
    points = np.asarray(origins[0] + 2.5 * directions[0], np.float64)
    rotation, centre = np.asarray(pose[:3, :3], np.float64), np.asarray(pose[:3, 3], np.float64)
    local = (points - centre) @ rotation
    image = local @ np.asarray(intrinsics, np.float64).T
    index = np.arange(16)
    expected = np.stack([index % 4 + 0.5, index // 4 + 0.5], axis=-1) / 4
    pixel = image[:, :2] / image[:, 2:]
    # Float32 rays 2.5 units long, magnified by the focal length.
    compare.assert_parity(pixel, expected, limit=1e-5, name="pixel centres")
    np.testing.assert_allclose(np.linalg.norm(directions[0], axis=-1), 1.0, atol=1e-6)


def test_the_ray_through_the_principal_point_is_the_cameras_z_axis():
    pose = cameras.look_at(1.2, 1.7, pivot=(0.0, 0.0, 0.2), radius=2.7)
    origins, directions = rays.pixel_rays(pose[None], cameras.intrinsics(4.0)[None], resolution=1)
    np.testing.assert_allclose(directions[0, 0], pose[:3, 2], atol=1e-6)
    np.testing.assert_array_equal(origins[0, 0], pose[:3, 3])


@pytest.mark.parametrize(
    ("origin", "direction", "expected"),
    [
        ((0, 0, 3), _DOWN, (2.5, 3.5, True)),
        (
            (0, 0, 3),
            np.array([0.1, 0.05, -1]) / np.linalg.norm([0.1, 0.05, -1]),
            (2.5156, 3.5218, True),
        ),
        ((0.6, 0, 3), _DOWN, (-1, -2, False)),
        ((0, 0, 0), (1, 0, 0), (-0.5, 0.5, True)),
    ],
    ids=["straight", "slanted", "miss", "inside"],
)
def test_cube_known_answers(origin, direction, expected):
    assert _cube(origin, direction) == pytest.approx(expected, abs=5e-5)


def test_entry_and_exit_lie_on_the_surface_and_scale_with_the_cube():
    draws = np.random.default_rng(0)
    origins = 3.0 * draws.normal(size=(50, 3)).astype(np.float32)
    targets = draws.uniform(-0.4, 0.4, size=(50, 3)).astype(np.float32)
    directions = (targets - origins) / np.linalg.norm(targets - origins, axis=-1, keepdims=True)
    cube = jax.jit(lambda o, d, side: boxes.intersect_cube(o, d, side=side), static_argnums=2)
    near, far, hit = cube(origins, directions, 1.0)
    assert hit.all()
    assert (far > near).all()
    for t in (near, far):
        points = origins + np.asarray(t)[:, None] * directions
        np.testing.assert_allclose(np.abs(points).max(axis=-1), 0.5, atol=3e-6)
    near2, far2, _ = cube(2.0 * origins, directions, 2.0)
    np.testing.assert_allclose(near2, 2.0 * near, rtol=1e-5)
    np.testing.assert_allclose(far2, 2.0 * far, rtol=1e-5)


def test_rays_that_miss_borrow_the_smallest_and_the_largest_entry():
    """Quirk Q3: the far bound of a miss is the largest ENTRY of the rays that hit."""
    origins = jnp.array([[[0.0, 0.0, 3.0], [0.0, 0.0, 4.0]], [[0.6, 0.0, 3.0], [0.0, 0.0, 3.5]]])
    directions = jnp.broadcast_to(jnp.array(_DOWN), origins.shape)
    near, far = boxes.ray_bounds(origins, directions, side=1.0)
    np.testing.assert_allclose(near, [[2.5, 3.5], [2.5, 3.0]])
    np.testing.assert_allclose(far, [[3.5, 4.5], [3.5, 4.0]])


def test_bounds_are_marked_where_no_ray_hits():
    origins = jnp.array([[[2.0, 0.0, 3.0], [0.0, 9.0, 3.0]]])
    directions = jnp.broadcast_to(jnp.array(_DOWN), origins.shape)
    near, far = boxes.ray_bounds(origins, directions, side=1.0)
    np.testing.assert_array_equal(near, [[-1.0, -1.0]])
    np.testing.assert_array_equal(far, [[-2.0, -2.0]])


def test_bounds_have_no_gradient():
    origin = jnp.array([[[0.1, 0.0, 3.0], [0.7, 0.0, 3.0]]])
    directions = jnp.broadcast_to(jnp.array(_DOWN), origin.shape)
    total = lambda o, d: sum(jnp.sum(b) for b in boxes.ray_bounds(o, d, side=1.0))  # noqa: E731
    for gradient in jax.jit(jax.grad(total, argnums=(0, 1)))(origin, directions):
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
