import numpy as np
import pytest

from ganavatar_jax.geometry import pose_errors
from helpers import layouts


def cameras(count=30, seed=0):
    """Cameras that look at the origin from a cap of a sphere of radius 2.7."""
    generator = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose, (yaw, pitch) in zip(poses, generator.uniform(-0.7, 0.7, (count, 2)), strict=True):
        back = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
        pose[:3, :3] = np.stack([right, np.cross(-back, right), -back], axis=1)
        pose[:3, 3] = 2.7 * back
    return poses


def moved(poses, *, scale, turn, shift):
    other = poses.copy()
    other[:, :3, :3] = turn @ poses[:, :3, :3]
    other[:, :3, 3] = scale * poses[:, :3, 3] @ turn.T + shift
    return other


def test_a_similarity_is_no_error():
    truth = cameras()
    turn = layouts.rotation(3, degrees=40.0)
    found = pose_errors.compare_poses(
        moved(truth, scale=0.4, turn=turn, shift=np.array([1.0, 2.0, -3.0])), truth
    )
    assert found.scale == pytest.approx(2.5)
    assert found.rotation_deg.max() < 1e-5
    assert found.shift.max() < 1e-9


def test_one_turned_and_shifted_camera_is_measured():
    truth = cameras(200)
    found = truth.copy()
    tilt = np.radians(10.0)
    about_x = [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
    found[7, :3, :3] = about_x @ found[7, :3, :3]
    found[9, :3, 3] += [0.0, 0.3, 0.0]
    left = pose_errors.compare_poses(found, truth)
    assert left.rotation_deg[7] == pytest.approx(10.0, abs=0.2)
    assert left.shift[9] == pytest.approx(0.3, abs=0.01)
    assert np.median(left.rotation_deg) < 0.1
    assert np.median(left.shift) < 0.01
