import numpy as np
import pytest

from ganavatar_jax.geometry import point_models
from helpers import layouts


@pytest.fixture
def model():
    generator = np.random.default_rng(0)
    mean = generator.normal(size=(40, 3)) * 0.1
    return point_models.PointModel(mean, generator.normal(size=(40, 3, 4)) * 0.01, 0.001)


def moved(points, *, scale=1.7, seed=3, shift=(0.3, -1.0, 0.5)):
    """Points in another frame, and the similarity that brings them back."""
    turn = layouts.rotation(seed)
    back = (1 / scale, turn.T, -turn.T @ np.array(shift) / scale)
    return scale * points @ turn.T + shift, back


def angle_deg(first, second):
    cosine = (np.trace(first.T @ second) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_the_mean_head_is_brought_back_exactly(model):
    points, (scale, rotation, translation) = moved(model.mean)
    found = point_models.align(points, model)
    assert found.scale == pytest.approx(scale, rel=1e-5)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-5)
    np.testing.assert_allclose(found.translation, translation, atol=1e-5)
    assert found.residual.max() < 1e-5


def test_a_persons_shape_is_not_taken_for_a_rotation(model):
    # A shape that plain least squares answers with a rotation: points shear like a turning head.
    sheared = model.mean @ np.array([[1, 0, 0], [0, 1, 0.2], [0, 0, 1.0]])
    modes = np.stack([sheared - model.mean], axis=-1)
    known = point_models.PointModel(model.mean, modes, 0.001)
    plain = point_models.PointModel(model.mean, modes[..., :0], 0.001)
    points, (_, rotation, _) = moved(sheared)
    assert angle_deg(point_models.align(points, plain).rotation, rotation) > 3
    assert angle_deg(point_models.align(points, known).rotation, rotation) < 0.5


def test_some_points_that_are_wrong_do_not_count(model):
    points, (scale, rotation, _) = moved(model.mean)
    points[:4] += 0.5
    found = point_models.align(points, model)
    assert angle_deg(found.rotation, rotation) < 0.5
    assert found.scale == pytest.approx(scale, rel=0.01)
    assert found.residual[:4].min() > 0.1


def test_the_similarity_is_never_a_reflection(model):
    found = point_models.align(model.mean * [-1, 1, 1], model)
    assert np.linalg.det(found.rotation) == pytest.approx(1)


def test_too_few_points_or_a_line_are_refused(model):
    with pytest.raises(ValueError, match="expected 40 points, at least 3; got"):
        point_models.align(model.mean[:5], model)
    line = np.outer(np.arange(40.0), [1, 2, 3])
    with pytest.raises(ValueError, match="lie on one line"):
        point_models.align(line, model)
