import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.geometry import cameras, triangulation


@pytest.fixture(scope="module")
def views():
    """Cameras around a head and points in it."""
    yaw = np.linspace(0.9, 2.2, 8, dtype=np.float32)
    poses = np.asarray(cameras.look_at(jnp.asarray(yaw), 1.4, radius=2.7), np.float64)
    intrinsics = np.tile(np.diag([4.2647, 4.2647, 1.0]), (8, 1, 1))
    intrinsics[:, :2, 2] = 0.5
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (12, 3))
    return poses, intrinsics, points


def test_the_origin_is_seen_in_the_middle_at_the_cameras_distance(views):
    poses, intrinsics, _ = views
    uv, depth = triangulation.project(np.zeros((1, 3)), poses, intrinsics)
    np.testing.assert_allclose(uv, 0.5, atol=1e-6)
    np.testing.assert_allclose(depth, 2.7, rtol=1e-6)


def test_rays_pass_through_the_points_they_see(views):
    poses, intrinsics, points = views
    uv, _ = triangulation.project(points, poses, intrinsics)
    offset = points[None] - poses[:, None, :3, 3]
    cross = np.cross(offset, triangulation.rays(uv, poses, intrinsics))
    np.testing.assert_allclose(cross, 0, atol=1e-6)


def test_points_are_found_again_whatever_the_unit(views):
    poses, intrinsics, points = views
    for unit in (1e-3, 1.0, 1e3):
        scaled = poses.copy()
        scaled[:, :3, 3] *= unit
        uv, _ = triangulation.project(points * unit, scaled, intrinsics)
        found, residual = triangulation.triangulate(uv, scaled, intrinsics)
        np.testing.assert_allclose(found, points * unit, atol=1e-6 * unit)
        assert residual.max() < 1e-6


def test_a_view_that_is_wrong_is_outvoted(views):
    poses, intrinsics, points = views
    uv, _ = triangulation.project(points, poses, intrinsics)
    uv[3] += 0.2
    found, residual = triangulation.triangulate(uv, poses, intrinsics)
    np.testing.assert_allclose(found, points, atol=2e-3)
    assert residual[3].min() > 0.1


def test_points_that_a_view_does_not_see_are_left_out(views):
    poses, intrinsics, points = views
    uv, _ = triangulation.project(points, poses, intrinsics)
    seen = np.ones(uv.shape[:2], bool)
    uv[2, 5], seen[2, 5] = np.nan_to_num(np.inf), False
    found, residual = triangulation.triangulate(np.clip(uv, -9, 9), poses, intrinsics, seen=seen)
    np.testing.assert_allclose(found, points, atol=1e-5)
    assert np.isnan(residual[2, 5])


def test_one_place_cannot_triangulate(views):
    poses, intrinsics, points = views
    uv, _ = triangulation.project(points, poses, intrinsics)
    same = np.repeat(poses[:1], len(poses), axis=0)
    with pytest.raises(ValueError, match="at least two camera centres"):
        triangulation.triangulate(uv, same, intrinsics)
