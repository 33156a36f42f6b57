"""Similarities: recovered from points, applied to points and cameras."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.geometry import cameras, rotations, similarity
from helpers import compiled

TRUTH = similarity.Similarity(
    scale=np.array(2.918, np.float32),
    rotation=np.asarray(
        compiled.run(rotations.from_axis_angle, np.array([0.1, -0.4, 2.8], np.float32))
    ),
    translation=np.array([0.3, -1.2, 0.7], np.float32),
)


def make_points(count: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def assert_same(actual: similarity.Similarity, expected: similarity.Similarity, atol=2e-6):
    np.testing.assert_allclose(actual.scale, expected.scale, atol=atol)
    np.testing.assert_allclose(actual.rotation, expected.rotation, atol=atol)
    np.testing.assert_allclose(actual.translation, expected.translation, atol=atol)


def project(camera: cameras.Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cam2world = np.asarray(camera.cam2world, np.float64)
    local = (points - cam2world[:3, 3]) @ cam2world[:3, :3]
    image = local @ np.asarray(camera.intrinsics, np.float64).T
    return image[:, :2] / image[:, 2:], local[:, 2]


def test_known_similarity_is_recovered():
    source = make_points()
    target = compiled.run(similarity.transform_points, source, TRUTH)
    assert_same(compiled.run(similarity.similarity_from_points, source, target), TRUTH)


@pytest.mark.parametrize("count", [3, 4])
def test_known_similarity_is_recovered_from_few_or_coplanar_points(count):
    source = make_points(count)
    source[:, 2] = 0.0
    target = compiled.run(similarity.transform_points, source, TRUTH)
    assert_same(compiled.run(similarity.similarity_from_points, source, target), TRUTH, atol=1e-5)


def test_result_does_not_depend_on_the_order_of_pairs():
    source = make_points()
    target = np.asarray(
        compiled.run(similarity.transform_points, source, TRUTH)
    ) + 0.1 * make_points(seed=1)
    order = np.random.default_rng(2).permutation(len(source))
    assert_same(
        compiled.run(similarity.similarity_from_points, source[order], target[order]),
        compiled.run(similarity.similarity_from_points, source, target),
    )


def test_batch_axes_are_solved_one_by_one():
    source = make_points(24).reshape(2, 12, 3)
    target = make_points(24, seed=1).reshape(2, 12, 3)
    together = compiled.run(similarity.similarity_from_points, source, target)
    for i in range(2):
        alone = compiled.run(similarity.similarity_from_points, source[i], target[i])
        np.testing.assert_allclose(together.rotation[i], alone.rotation, atol=2e-6)
        np.testing.assert_allclose(together.scale[i], alone.scale, atol=2e-6)


def test_mirrored_points_give_a_rotation_not_a_reflection():
    source = make_points()
    found = compiled.run(
        similarity.similarity_from_points, source, source * np.array([-1, 1, 1], np.float32)
    )
    np.testing.assert_allclose(np.linalg.det(found.rotation), 1.0, atol=1e-5)


def test_no_nearby_similarity_fits_noisy_points_better():
    source = make_points()
    target = np.asarray(
        compiled.run(similarity.transform_points, source, TRUTH)
    ) + 0.3 * make_points(seed=1)
    weights = np.random.default_rng(3).uniform(0.1, 2.0, len(source)).astype(np.float32)
    found = compiled.run(similarity.similarity_from_points, source, target, weights=weights)

    @jax.jit
    def cost(turn, stretch, shift):
        other = similarity.Similarity(
            scale=found.scale * stretch,
            rotation=rotations.from_axis_angle(turn) @ found.rotation,
            translation=found.translation + shift,
        )
        error = similarity.transform_points(source, other) - target
        return jnp.sum(weights[:, None] * error**2)

    best = cost(jnp.zeros(3), 1.0, jnp.zeros(3))
    rng = np.random.default_rng(4)
    for _ in range(20):
        turn, shift = 0.02 * rng.normal(size=(2, 3)).astype(np.float32)
        assert cost(turn, 1.0 + 0.02 * rng.normal(), shift) > best


def test_pairs_of_zero_weight_do_not_count():
    source = make_points()
    target = np.array(compiled.run(similarity.transform_points, source, TRUTH))
    target[:5] += 9.0
    weights = np.ones(len(source), np.float32)
    weights[:5] = 0.0
    assert_same(
        compiled.run(similarity.similarity_from_points, source, target, weights=weights), TRUTH
    )


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((4, 3), (5, 3))])
def test_too_few_or_unmatched_points_are_refused(shapes):
    source, target = (np.zeros(shape, np.float32) for shape in shapes)
    with pytest.raises(ValueError, match="at least 3 pairs of points"):
        similarity.similarity_from_points.__wrapped__(source, target)


def test_projections_survive_the_move_and_depths_scale():
    camera = cameras.Camera(
        compiled.run(cameras.look_at, 1.2, 1.4, pivot=(0.0, 0.0, 0.1), radius=4.0),
        cameras.intrinsics(4.2, cx=0.45, cy=0.52),
    )
    points = make_points(12) * 0.3
    moved = compiled.run(similarity.transform_camera, camera, TRUTH)
    before, depth_before = project(camera, points)
    after, depth_after = project(
        moved, np.asarray(compiled.run(similarity.transform_points, points, TRUTH))
    )
    np.testing.assert_allclose(after, before, atol=5e-6)
    np.testing.assert_allclose(depth_after, float(TRUTH.scale) * depth_before, rtol=5e-6)
    np.testing.assert_array_equal(moved.intrinsics, camera.intrinsics)


def test_moved_cameras_stay_rigid_in_any_batch():
    poses = compiled.run(
        cameras.look_at, np.linspace(1, 2, 6, dtype=np.float32).reshape(2, 3), 1.4, radius=2.0
    )
    camera = cameras.Camera(poses, np.zeros((2, 3, 3, 3), np.float32))
    moved = np.asarray(compiled.run(similarity.transform_camera, camera, TRUTH).cam2world)
    rotation = moved[..., :3, :3]
    np.testing.assert_allclose(
        rotation @ rotation.swapaxes(-1, -2), np.broadcast_to(np.eye(3), (2, 3, 3, 3)), atol=1e-6
    )
    np.testing.assert_array_equal(moved[..., 3, :], np.broadcast_to([0, 0, 0, 1], (2, 3, 4)))


def test_scale_only_moves_the_centre_and_leaves_the_rotation():
    camera = cameras.Camera(
        compiled.run(cameras.look_at, 1.2, 1.4, radius=1.25), cameras.intrinsics(4.6)
    )
    moved = compiled.run(similarity.transform_camera, camera, similarity.scale_only(TRUTH))
    np.testing.assert_array_equal(moved.cam2world[:3, :3], camera.cam2world[:3, :3])
    np.testing.assert_allclose(
        moved.cam2world[:3, 3], float(TRUTH.scale) * np.asarray(camera.cam2world[:3, 3]), rtol=1e-6
    )


def test_scale_of_a_rounded_matrix_is_that_of_the_reference():
    matrix = np.array(
        [
            [2.916, 0.04291, 0.09933, -0.004668],
            [-0.03441, 2.907, -0.2458, 0.02388],
            [-0.1026, 0.2444, 2.906, 0.1118],
            [0.0, 0.0, 0.0, 1.0],
        ],
        np.float32,
    )
    found = compiled.run(similarity.similarity_from_matrix, matrix)
    np.testing.assert_allclose(found.scale, 2.918007, atol=1e-6)
    rotation = np.asarray(found.rotation)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(found.scale * rotation, matrix[:3, :3], atol=1e-3)
