import numpy as np
import pytest

from ganavatar_jax.geometry import rotation_vectors
from helpers import layouts


def turns(count=12, *, degrees=175.0):
    return np.stack([layouts.rotation(seed, degrees=degrees) for seed in range(count)])


def about_z(degrees):
    angle = np.radians(degrees)
    return np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )


def test_the_exponential_turns_about_the_axis_by_the_angle():
    found = rotation_vectors.exp(np.array([[0.0, 0.0, np.radians(30.0)], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(found, [about_z(30.0), np.eye(3)], atol=1e-12)


@pytest.mark.parametrize("degrees", [1e-7, 1e-3, 5.0, 179.0])
def test_the_logarithm_undoes_the_exponential(degrees):
    axes = np.random.default_rng(0).normal(size=(6, 3))
    vectors = np.radians(degrees) * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    found = rotation_vectors.exp(vectors)
    np.testing.assert_allclose(found @ np.swapaxes(found, 1, 2), [np.eye(3)] * 6, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(found), 1.0)
    np.testing.assert_allclose(rotation_vectors.log(found), vectors, rtol=1e-6, atol=1e-15)


def test_angles_are_those_of_the_turn_between():
    some = turns()
    other = some @ rotation_vectors.exp(np.tile([[0.0, 0.3, 0.0]], (12, 1)))
    np.testing.assert_allclose(rotation_vectors.angle_deg(some, other), np.degrees(0.3))
    between = rotation_vectors.log(some[1:] @ np.swapaxes(some[:-1], 1, 2))
    np.testing.assert_allclose(
        rotation_vectors.angle_deg(some[1:], some[:-1]),
        np.degrees(np.linalg.norm(between, axis=1)),
        rtol=1e-6,
    )


def test_the_mean_lies_between_as_the_weights_say():
    place = turns(1)[0]
    around = np.stack([place @ about_z(-12.0), place @ about_z(12.0)])
    even = rotation_vectors.mean(around, np.ones(2))
    np.testing.assert_allclose(even, place, atol=1e-12)
    heavier = rotation_vectors.mean(around, np.array([1.0, 3.0]))
    to = rotation_vectors.angle_deg(np.stack([heavier] * 2), around)
    assert to[1] == pytest.approx(6.0, abs=0.1)
    np.testing.assert_allclose(
        rotation_vectors.mean(around, np.array([0.0, 1.0])), around[1], atol=1e-12
    )


def test_slopes_are_those_of_small_turns():
    points = np.random.default_rng(0).normal(size=(4, 5, 3))
    slopes = rotation_vectors.cross_slopes(points)
    step = 1e-6
    for axis in range(3):
        little = rotation_vectors.exp(step * np.eye(3)[axis : axis + 1])[0]
        moved = (points @ little.T - points @ little) / (2 * step)
        np.testing.assert_allclose(slopes[..., axis], moved, atol=1e-8)
