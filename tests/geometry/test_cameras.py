"""Cameras: the label codec, mirroring, the look-at placement, intrinsics, rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.geometry import cameras, rotations
from helpers import compiled

FRONTAL = np.pi / 2
from_axis_angle = jax.jit(rotations.from_axis_angle)


def make_camera(rng: np.random.Generator, *batch: int, skew: float = 0.02) -> cameras.Camera:
    """Cameras of generic position, rotation and intrinsics."""
    axis_angle = rng.uniform(-1.5, 1.5, (*batch, 3)).astype(np.float32)
    cam2world = np.tile(np.eye(4, dtype=np.float32), (*batch, 1, 1))
    cam2world[..., :3, :3] = np.asarray(from_axis_angle(axis_angle))
    cam2world[..., :3, 3] = rng.normal(size=(*batch, 3))
    k = np.tile(
        np.array([[4.2, skew, 0.47], [0.0, 4.4, 0.55], [0.0, 0.0, 1.0]], np.float32),
        (*batch, 1, 1),
    )
    return cameras.Camera(cam2world=cam2world, intrinsics=k)


def project(camera: cameras.Camera, points: np.ndarray) -> np.ndarray:
    """Normalized image positions of world points, in float64."""
    cam2world = np.asarray(camera.cam2world, np.float64)
    local = (points - cam2world[:3, 3]) @ cam2world[:3, :3]
    image = local @ np.asarray(camera.intrinsics, np.float64).T
    return image[:, :2] / image[:, 2:]


def test_points_are_projected_as_in_float64_with_their_depths(key):
    angles = FRONTAL + jnp.asarray([0.4, -0.3])
    poses = cameras.look_at(angles, FRONTAL + 0.1, radius=2.7)
    camera = cameras.Camera(poses, make_camera(np.random.default_rng(3), 2).intrinsics)
    points = np.asarray(jax.random.uniform(key, (2, 5, 3), minval=-0.3, maxval=0.3))
    uv, depth = compiled.run(cameras.project, camera, points)
    for index in range(2):
        pose = np.asarray(poses, np.float64)[index]
        single = cameras.Camera(pose, np.asarray(camera.intrinsics)[index])
        np.testing.assert_allclose(uv[index], project(single, points[index]), atol=2e-6)
        along = (points[index] - pose[:3, 3]) @ pose[:3, 2]
        np.testing.assert_allclose(depth[index], along, rtol=1e-5)


def test_look_at_matches_the_reference_known_answer():
    actual = compiled.run(
        cameras.look_at, FRONTAL + 0.3, FRONTAL - 0.1, pivot=(0.0, 0.0, 0.2), radius=2.7
    )
    expected = [
        [0.948095, 0.021776, -0.317240, 0.796286],
        [0.0, -0.997652, -0.068480, 0.171887],
        [-0.317986, 0.064925, -0.945870, 2.574176],
        [0.0, 0.0, 0.0, 1.0],
    ]
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_frontal_camera_is_the_one_of_the_convention():
    actual = compiled.run(cameras.look_at, FRONTAL, FRONTAL, radius=2.7)
    expected = np.diag([1.0, -1.0, -1.0, 1.0])
    expected[2, 3] = 2.7
    np.testing.assert_allclose(actual, expected, atol=5e-7)


@pytest.mark.parametrize(
    ("vertical", "polar"), [(FRONTAL - 0.2, 1.44313), (1.2, 1.33249), (FRONTAL, FRONTAL)]
)
def test_vertical_becomes_polar_angle_through_arccos(vertical, polar):
    height = compiled.run(cameras.look_at, FRONTAL, vertical, radius=1.0)[1, 3]
    np.testing.assert_allclose(height, np.cos(polar), atol=1e-5)


def test_look_at_is_rigid_upright_and_centred_on_the_pivot():
    rng = np.random.default_rng(0)
    pivot = rng.uniform(-0.2, 0.2, (50, 3)).astype(np.float32)
    cam2world = compiled.run(
        cameras.look_at,
        rng.uniform(0, 2 * np.pi, 50).astype(np.float32),
        rng.uniform(0.3, np.pi - 0.3, 50).astype(np.float32),
        pivot=pivot,
        radius=2.7,
    )
    rotation = np.asarray(cam2world[:, :3, :3])
    np.testing.assert_allclose(
        rotation @ rotation.swapaxes(1, 2), np.tile(np.eye(3), (50, 1, 1)), atol=1e-6
    )
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-6)
    np.testing.assert_allclose(rotation[:, 1, 0], 0.0, atol=1e-6)  # horizon stays level
    assert np.all(rotation[:, 1, 1] < 0.0)  # the image's down points down
    local = np.einsum("bji,bj->bi", rotation, pivot - np.asarray(cam2world[:, :3, 3]))
    np.testing.assert_allclose(local[:, :2], 0.0, atol=2e-6)
    assert np.all(local[:, 2] > 0.0)


@pytest.mark.parametrize("vertical", [0.0, np.pi, -1.0, 4.0])
def test_look_at_stays_finite_at_the_poles(vertical):
    assert np.all(np.isfinite(compiled.run(cameras.look_at, 1.0, vertical, radius=2.7)))


def test_batching_look_at_commutes_with_stacking():
    horizontal = jnp.asarray([1.2, 1.5, 2.0])
    together = compiled.run(cameras.look_at, horizontal, 1.4, radius=2.0)
    apart = jnp.stack([compiled.run(cameras.look_at, h, 1.4, radius=2.0) for h in horizontal])
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_label_round_trip_is_exact_and_row_major():
    camera = make_camera(np.random.default_rng(1), 2, 3)
    label25 = compiled.run(cameras.to_label25, camera)
    assert label25.shape == (2, 3, 25)
    np.testing.assert_array_equal(label25[..., 7], camera.cam2world[..., 1, 3])
    np.testing.assert_array_equal(label25[..., 18], camera.intrinsics[..., 0, 2])
    back = cameras.from_label25(label25)
    np.testing.assert_array_equal(back.cam2world, camera.cam2world)
    np.testing.assert_array_equal(back.intrinsics, camera.intrinsics)


def test_mirrored_label_sees_mirrored_points_at_flipped_positions():
    rng = np.random.default_rng(2)
    camera = make_camera(rng)
    mirrored = cameras.from_label25(
        compiled.run(cameras.mirror_label25, compiled.run(cameras.to_label25, camera))
    )
    points = rng.normal(size=(20, 3)) + 9.0 * camera.cam2world[:3, 2]
    seen = project(camera, points)
    seen_mirrored = project(mirrored, points * np.array([-1.0, 1.0, 1.0]))
    np.testing.assert_allclose(seen_mirrored[:, 0], 1.0 - seen[:, 0], atol=1e-5)
    np.testing.assert_allclose(seen_mirrored[:, 1], seen[:, 1], atol=1e-5)


def test_mirroring_twice_gives_the_label_back():
    label25 = compiled.run(cameras.to_label25, make_camera(np.random.default_rng(3), 4))
    np.testing.assert_allclose(
        compiled.run(cameras.mirror_label25, compiled.run(cameras.mirror_label25, label25)),
        label25,
        atol=1e-7,
    )


def test_mirroring_negates_the_pose_entries_of_the_reference():
    label25 = jnp.arange(1.0, 26.0)
    negated = np.flatnonzero(np.asarray(compiled.run(cameras.mirror_label25, label25)[:16] < 0.0))
    assert negated.tolist() == [1, 2, 3, 4, 8, 12]  # 12: bottom row, zero in a pose


def test_intrinsics_place_focal_and_principal_point():
    k = compiled.run(cameras.intrinsics, jnp.asarray([4.0, 5.0]), cx=0.4, cy=0.6)
    np.testing.assert_allclose(k[1], [[5.0, 0.0, 0.4], [0.0, 5.0, 0.6], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("yaw", "expected"), [(0.0, 0.0), (0.3, np.degrees(0.3)), (-1.0, -np.degrees(1.0))]
)
def test_yaw_is_measured_from_frontal_towards_plus_x(yaw, expected):
    yaw_deg, pitch_deg = compiled.run(
        cameras.yaw_pitch_deg, compiled.run(cameras.look_at, FRONTAL + yaw, FRONTAL, radius=3.0)
    )
    np.testing.assert_allclose(yaw_deg, expected, atol=1e-4)
    np.testing.assert_allclose(pitch_deg, 0.0, atol=1e-4)


def test_pitch_is_positive_from_above():
    _, pitch_deg = compiled.run(
        cameras.yaw_pitch_deg, compiled.run(cameras.look_at, 2.0, FRONTAL - 0.2, radius=3.0)
    )
    np.testing.assert_allclose(pitch_deg, 90.0 - np.degrees(1.4431), atol=5e-3)


def test_label_of_wrong_length_is_refused():
    with pytest.raises(ValueError, match="25 numbers in its last axis; got shape"):
        cameras.from_label25.__wrapped__(jnp.zeros((2, 24)))


def test_axis_angle_turns_by_the_angle_around_the_axis():
    quarter = compiled.run(rotations.from_axis_angle, jnp.asarray([0.0, 0.0, np.pi / 2]))
    np.testing.assert_allclose(quarter @ jnp.asarray([1.0, 0.0, 0.0]), [0.0, 1.0, 0.0], atol=1e-6)


def test_axis_angle_has_finite_derivative_at_zero():
    jacobian = jax.jit(jax.jacobian(rotations.from_axis_angle))(jnp.zeros(3))
    np.testing.assert_allclose(jacobian[2, 1], [1.0, 0.0, 0.0], atol=1e-6)
