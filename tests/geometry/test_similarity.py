"""Similarities: recovered from points, applied to points and cameras."""

import numpy as np
import pytest

from ganavatar_jax.geometry import similarity, triangulation
from helpers import layouts

TRUTH = similarity.Similarity(
    scale=2.918, rotation=layouts.rotation(3, degrees=160.0), translation=np.array([0.3, -1.2, 0.7])
)


def make_points(count=30, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3))


def find(source, target, weights=None):
    return similarity.from_points(
        source, target, np.ones(len(source)) if weights is None else weights
    )


def assert_same(actual, expected, atol=1e-12):
    np.testing.assert_allclose(actual.scale, expected.scale, atol=atol)
    np.testing.assert_allclose(actual.rotation, expected.rotation, atol=atol)
    np.testing.assert_allclose(actual.translation, expected.translation, atol=atol)


@pytest.mark.parametrize("count", [3, 4, 30])
@pytest.mark.parametrize("flat", [False, True])
def test_a_known_similarity_is_recovered(count, flat):
    source = make_points(count)
    source[:, 2] *= not flat
    assert_same(find(source, similarity.move_points(source, TRUTH)), TRUTH)


def test_a_mirrored_set_of_points_still_gives_a_rotation():
    source = make_points()
    found = find(source, source * [-1, 1, 1])
    np.testing.assert_allclose(np.linalg.det(found.rotation), 1.0)
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-12)


def test_no_nearby_similarity_fits_noisy_points_better():
    source, rng = make_points(), np.random.default_rng(1)
    target = similarity.move_points(source, TRUTH) + 0.2 * make_points(seed=2)
    weights = rng.uniform(0.1, 2.0, len(source))
    found = find(source, target, weights)

    def error(candidate):
        return weights @ ((similarity.move_points(source, candidate) - target) ** 2).sum(axis=1)

    for seed in range(20):
        turn = layouts.rotation(seed, degrees=0.5)
        other = similarity.Similarity(
            found.scale * (1 + 0.003 * rng.normal()),
            turn @ found.rotation,
            found.translation + 0.003 * rng.normal(size=3),
        )
        assert error(other) > error(found)


def test_pairs_without_weight_do_not_count():
    source = make_points()
    target = similarity.move_points(source, TRUTH)
    target[:5] += 3.0
    weights = np.ones(len(source))
    weights[:5] = 0.0
    assert_same(find(source, target, weights), TRUTH)


def test_projections_survive_the_move_and_depths_scale():
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, :3, :3] = [layouts.rotation(seed, degrees=20.0) for seed in range(4)]
    poses[:, :3, 3] = np.random.default_rng(3).normal(size=(4, 3)) - [0, 0, 6]
    lens = np.tile([[4.2, 0.02, 0.45], [0.0, 4.4, 0.52], [0.0, 0.0, 1.0]], (4, 1, 1))
    points = 0.3 * make_points(12)
    moved = similarity.move_cameras(poses, TRUTH)
    before, depth_before = triangulation.project(points, poses, lens)
    after, depth_after = triangulation.project(similarity.move_points(points, TRUTH), moved, lens)
    np.testing.assert_allclose(after, before, atol=1e-12)
    np.testing.assert_allclose(depth_after, TRUTH.scale * depth_before, rtol=1e-12)
    rotation = moved[:, :3, :3]
    identity = np.broadcast_to(np.eye(3), (4, 3, 3))
    np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), identity, atol=1e-12)
    np.testing.assert_array_equal(moved[:, 3], np.tile([0.0, 0.0, 0.0, 1.0], (4, 1)))
    np.testing.assert_array_equal(similarity.move_cameras(poses[0], TRUTH), moved[0])


def test_the_cameras_that_are_given_stay_as_they_are():
    pose = np.eye(4)
    similarity.move_cameras(pose, TRUTH)
    np.testing.assert_array_equal(pose, np.eye(4))
