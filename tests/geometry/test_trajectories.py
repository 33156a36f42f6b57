"""Camera paths: they stay on their sphere, look at their pivot, and close."""

import numpy as np
import pytest

from ganavatar_jax.geometry import cameras, trajectories
from helpers import compiled

FRONTAL = np.pi / 2
PIVOT = (0.0, 0.05, 0.2)
K = cameras.intrinsics(4.2647)


def test_an_orbit_keeps_its_distance_and_looks_at_the_pivot():
    camera = compiled.run(trajectories.orbit, 12, radius=2.7, intrinsics=K, pivot=PIVOT)
    assert camera.cam2world.shape == (12, 4, 4)
    assert camera.intrinsics.shape == (12, 3, 3)
    origin, forward = np.asarray(camera.cam2world[:, :3, 3]), camera.cam2world[:, :3, 2]
    np.testing.assert_allclose(np.linalg.norm(origin, axis=1), 2.7, atol=1e-5)
    towards = np.array(PIVOT) - origin
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    np.testing.assert_allclose(forward, towards, atol=1e-6)


def test_an_orbit_closes_without_a_doubled_frame():
    poses = np.asarray(compiled.run(trajectories.orbit, 16, radius=2.7, intrinsics=K).cam2world)
    steps = np.linalg.norm(np.roll(poses, -1, axis=0) - poses, axis=(1, 2))
    assert steps[-1] > 0.01
    assert steps[-1] < 2.0 * steps[:-1].max()


def test_orbit_covers_the_circle_in_equal_steps_from_the_front():
    camera = compiled.run(trajectories.orbit, 8, radius=2.7, intrinsics=K)
    yaw_deg, pitch_deg = compiled.run(cameras.yaw_pitch_deg, camera.cam2world)
    np.testing.assert_allclose(np.asarray(yaw_deg) % 360.0, np.arange(8) * 45.0, atol=1e-3)
    np.testing.assert_allclose(pitch_deg, 0.0, atol=1e-3)


def test_a_path_without_frames_is_refused():
    with pytest.raises(ValueError, match="frames >= 1; got 0"):
        trajectories.orbit(0, radius=2.7, intrinsics=K)


def test_a_camera_carried_around_keeps_its_distance_and_stands_where_the_angles_say():
    yaw_deg, pitch_deg = np.array([0.0, 30.0, -120.0]), np.array([0.0, 20.0, -40.0])
    front = cameras.Camera(compiled.run(cameras.look_at, FRONTAL, FRONTAL, radius=2.7), K)
    camera = compiled.run(trajectories.around, front, yaw_deg, pitch_deg)
    np.testing.assert_allclose(camera.cam2world[0], front.cam2world, atol=1e-6)
    found = compiled.run(cameras.yaw_pitch_deg, camera.cam2world)
    np.testing.assert_allclose(found, (yaw_deg, pitch_deg), atol=1e-3)
    origin = np.asarray(camera.cam2world[:, :3, 3])
    np.testing.assert_allclose(np.linalg.norm(origin, axis=1), 2.7, atol=1e-5)
    # Upright: the image's x axis is level.
    np.testing.assert_allclose(camera.cam2world[:, 1, 0], 0.0, atol=1e-6)
    assert camera.intrinsics.shape == (3, 3, 3)
