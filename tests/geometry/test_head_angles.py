"""Signs of yaw, pitch and roll: the person's own."""

import numpy as np
import pytest

from ganavatar_jax.geometry import head_angles, triangulation

LENS = np.array([[4.2647, 0.0, 0.5], [0.0, 4.2647, 0.5], [0.0, 0.0, 1.0]])
NOSE = np.array([[0.0, 0.0, 0.2]])


def camera(*, from_side=(0.0, 0.0, 1.0), roll_deg=0.0):
    """A camera that looks at the origin, turned clockwise about its own axis."""
    back = np.array(from_side, np.float64) / np.linalg.norm(from_side)
    right = np.cross([0.0, 1.0, 0.0], back)
    right /= np.linalg.norm(right)
    down = np.cross(-back, right)
    angle = np.radians(roll_deg)
    pose = np.eye(4)
    pose[:3, 0] = np.cos(angle) * right + np.sin(angle) * down
    pose[:3, 1] = -np.sin(angle) * right + np.cos(angle) * down
    pose[:3, 2], pose[:3, 3] = -back, 2.7 * back
    return pose


def seen(point, pose):
    return triangulation.project(np.array([point]), pose[None], LENS[None])[0][0, 0]


def test_a_frontal_camera_sees_no_turn():
    np.testing.assert_allclose(head_angles.from_cameras(camera()), 0.0, atol=1e-9)


def test_a_face_turned_to_its_left_points_to_the_right_of_the_image():
    # +x is the person's left, see CONVENTIONS.md: a camera on the right sees the face turned left.
    pose = camera(from_side=(-np.sin(0.3), 0.0, np.cos(0.3)))
    yaw, pitch, roll = head_angles.from_cameras(pose)
    assert yaw == pytest.approx(np.degrees(0.3))
    assert abs(pitch) < 1e-9
    assert abs(roll) < 1e-9
    assert seen(NOSE[0], pose)[0] > 0.5 + 0.02


def test_a_raised_chin_lifts_the_nose_in_the_image():
    pose = camera(from_side=(0.0, -np.sin(0.2), np.cos(0.2)))
    yaw, pitch, roll = head_angles.from_cameras(pose)
    assert pitch == pytest.approx(np.degrees(0.2))
    assert abs(yaw) + abs(roll) < 1e-9
    assert seen(NOSE[0], pose)[1] < 0.5 - 0.02


def test_a_head_tilted_to_its_left_shoulder_has_its_top_on_the_right_of_the_image():
    pose = camera(roll_deg=-15.0)
    yaw, pitch, roll = head_angles.from_cameras(pose)
    assert roll == pytest.approx(15.0)
    assert abs(yaw) + abs(pitch) < 1e-9
    assert seen((0.0, 0.3, 0.0), pose)[0] > 0.5 + 0.02


def test_angles_of_many_cameras_are_told_apart_from_one_another():
    poses = np.stack([camera(from_side=(0.3, -0.2, 1.0), roll_deg=r) for r in (-40.0, 0.0, 40.0)])
    found = head_angles.from_cameras(poses)
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found[:, 2], [40.0, 0.0, -40.0], atol=1e-9)
    np.testing.assert_allclose(found[:, :2] - found[0, :2], 0.0, atol=1e-9)
    assert found[0, 0] < 0 < found[0, 1]
