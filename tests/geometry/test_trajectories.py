"""Camera paths: they stay on their sphere, look at their pivot, close, and meet their ends."""

import numpy as np
import pytest

from ganavatar_jax.geometry import cameras, trajectories
from helpers import compiled

FRONTAL = np.pi / 2
PIVOT = (0.0, 0.05, 0.2)
K = cameras.intrinsics(4.2647)
LOOPS = [trajectories.orbit, trajectories.ellipse, trajectories.figure_eight]


@pytest.mark.parametrize("path", LOOPS)
def test_every_loop_keeps_its_distance_and_looks_at_the_pivot(path):
    camera = compiled.run(path, 12, radius=2.7, intrinsics=K, pivot=PIVOT)
    assert camera.cam2world.shape == (12, 4, 4)
    assert camera.intrinsics.shape == (12, 3, 3)
    origin, forward = np.asarray(camera.cam2world[:, :3, 3]), camera.cam2world[:, :3, 2]
    np.testing.assert_allclose(np.linalg.norm(origin, axis=1), 2.7, atol=1e-5)
    towards = np.array(PIVOT) - origin
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    np.testing.assert_allclose(forward, towards, atol=1e-6)


@pytest.mark.parametrize("path", LOOPS)
def test_every_loop_closes_without_a_doubled_frame(path):
    poses = np.asarray(compiled.run(path, 16, radius=2.7, intrinsics=K).cam2world)
    steps = np.linalg.norm(np.roll(poses, -1, axis=0) - poses, axis=(1, 2))
    assert steps[-1] > 0.01
    assert steps[-1] < 2.0 * steps[:-1].max()


def test_orbit_covers_the_circle_in_equal_steps_from_the_front():
    camera = compiled.run(trajectories.orbit, 8, radius=2.7, intrinsics=K)
    yaw_deg, pitch_deg = compiled.run(cameras.yaw_pitch_deg, camera.cam2world)
    np.testing.assert_allclose(np.asarray(yaw_deg) % 360.0, np.arange(8) * 45.0, atol=1e-3)
    np.testing.assert_allclose(pitch_deg, 0.0, atol=1e-3)


def test_ellipse_reaches_its_amplitudes():
    camera = compiled.run(
        trajectories.ellipse,
        4,
        radius=2.7,
        intrinsics=K,
        yaw_amplitude=0.3,
        pitch_amplitude=0.2,
        pitch_offset=-0.1,
    )
    right = compiled.run(cameras.look_at, FRONTAL + 0.3, FRONTAL - 0.1, radius=2.7)
    lowest = compiled.run(cameras.look_at, FRONTAL, FRONTAL + 0.1, radius=2.7)
    np.testing.assert_allclose(camera.cam2world[1], right, atol=2e-6)
    np.testing.assert_allclose(camera.cam2world[0], lowest, atol=2e-6)


def test_figure_eight_is_frontal_twice():
    camera = compiled.run(trajectories.figure_eight, 8, radius=2.7, intrinsics=K)
    frontal = compiled.run(cameras.look_at, FRONTAL, FRONTAL, radius=2.7)
    near = np.abs(np.asarray(camera.cam2world - frontal[None])).max(axis=(1, 2)) < 1e-5
    assert np.flatnonzero(near).tolist() == [0, 4]


def test_interpolation_meets_both_ends_and_their_intrinsics():
    start = cameras.Camera(compiled.run(cameras.look_at, 1.0, 1.3, pivot=PIVOT, radius=2.5), K)
    end = cameras.Camera(
        compiled.run(cameras.look_at, 2.3, 1.9, pivot=(0.1, 0.0, 0.0), radius=3.5),
        cameras.intrinsics(3.0),
    )
    path = compiled.run(trajectories.interpolate, start, end, 5, pivot=PIVOT)
    for index, camera in ((0, start), (-1, end)):
        np.testing.assert_allclose(path.cam2world[index], camera.cam2world, atol=3e-6)
        np.testing.assert_allclose(path.intrinsics[index], camera.intrinsics, atol=1e-6)
    np.testing.assert_allclose(path.intrinsics[2, 0, 0], (4.2647 + 3.0) / 2, atol=1e-6)


def test_interpolation_swings_around_the_pivot_instead_of_cutting_through():
    start, end = (
        cameras.Camera(compiled.run(cameras.look_at, FRONTAL + yaw, 1.4, radius=2.7), K)
        for yaw in (-1.2, 1.2)
    )
    path = compiled.run(trajectories.interpolate, start, end, 9)
    origin = np.asarray(path.cam2world[:, :3, 3])
    np.testing.assert_allclose(np.linalg.norm(origin, axis=1), 2.7, atol=1e-5)
    np.testing.assert_allclose(path.cam2world[:, :3, 2], -origin / 2.7, atol=2e-6)


def test_interpolation_is_symmetric_in_its_ends():
    start = cameras.Camera(compiled.run(cameras.look_at, 1.0, 1.3, radius=2.5), K)
    end = cameras.Camera(compiled.run(cameras.look_at, 2.3, 1.9, radius=3.5), K)
    there = compiled.run(trajectories.interpolate, start, end, 6).cam2world
    back = compiled.run(trajectories.interpolate, end, start, 6).cam2world
    np.testing.assert_allclose(there, back[::-1], atol=3e-6)


@pytest.mark.parametrize("path", LOOPS)
def test_a_path_without_frames_is_refused(path):
    with pytest.raises(ValueError, match="frames >= 1; got 0"):
        path(0, radius=2.7, intrinsics=K)


def test_interpolation_with_one_frame_is_refused():
    camera = cameras.Camera(compiled.run(cameras.look_at, 1.0, 1.3, radius=2.5), K)
    with pytest.raises(ValueError, match="frames >= 2 for its two ends; got 1"):
        compiled.run(trajectories.interpolate, camera, camera, 1)


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
