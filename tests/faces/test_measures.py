"""Landmark measures: independent of where and how large the face is, and they follow motion."""

import numpy as np
import pytest

from ganavatar_jax.faces import coefficients, measures


@pytest.fixture
def landmarks():
    return np.random.default_rng(0).uniform(0, 100, (478, 3)).astype(np.float32)


def test_shift_scale_and_rotation_do_not_matter(landmarks):
    expected = measures.measure(landmarks)
    assert expected.shape == (len(measures.NAMES),)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    moved = (landmarks @ turn * 2.5 + (30.0, -8.0, 4.0)).astype(np.float32)
    np.testing.assert_allclose(measures.measure(moved), expected, rtol=2e-4, atol=2e-5)


def _moved(landmarks, indices, step):
    moved = landmarks.copy()
    moved[indices] += step
    return moved


@pytest.mark.parametrize(
    ("indices", "towards", "grows"),
    [([13], (13, 14), "mouthGap"), ([291], (291, 61), "mouthWidth"), ([152], (152, 2), "jawDrop")],
)
def test_points_moving_apart_grow_their_measure(landmarks, indices, towards, grows):
    step = landmarks[towards[0]] - landmarks[towards[1]]
    before = measures.measure(landmarks)
    after = measures.measure(_moved(landmarks, indices, step))
    place = measures.NAMES.index(grows)
    assert after[place] == pytest.approx(2 * before[place], rel=1e-4)


def test_raising_a_mouth_corner_moves_only_that_sides_height(landmarks):
    up = (landmarks[10] - landmarks[152]) / np.linalg.norm(landmarks[10] - landmarks[152])
    unit = np.linalg.norm(landmarks[33] - landmarks[263])
    change = measures.measure(_moved(landmarks, [291], up * unit)) - measures.measure(landmarks)
    left, right = coefficients.indices(measures.NAMES, ["mouthCornerLeft", "mouthCornerRight"])
    assert change[left] == pytest.approx(1.0, abs=1e-4)
    assert change[right] == 0.0
