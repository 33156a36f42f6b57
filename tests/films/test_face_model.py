"""The model of where landmarks lie on heads: what ships, and the polynomial of the view."""

import numpy as np
import pytest

from ganavatar_jax.films import face_model
from ganavatar_jax.geometry import head_angles
from helpers import heads

NOSE, CHIN, RIGHT_EYE, LEFT_EYE = 4, 152, 33, 263


@pytest.fixture(scope="module")
def model():
    return face_model.load_face_model()


@pytest.fixture(scope="module")
def partners(model):
    """Place of each landmark's mirror image among the model's own, by the mean."""
    mirror = model.mean * [-1.0, 1.0, 1.0]
    return np.linalg.norm(model.mean[None] - mirror[:, None], axis=-1).argmin(axis=1)


def test_what_ships_is_whole(model):
    count = len(model.indices)
    assert len(set(model.indices.tolist())) == count
    assert 0 <= model.indices.min()
    assert model.indices.max() < 468  # the irises follow the gaze
    features = face_model.drift_features(np.zeros(1), np.zeros(1)).shape[1]
    assert model.mean.shape == model.noise.shape == (count, 3)
    assert model.drift.shape == (count, 3, features)
    assert model.identity.shape[:2] == model.frame.shape[:2] == (count, 3)
    for part in (model.mean, model.drift, model.identity, model.frame, model.noise):
        assert part.dtype == np.float64
        assert np.isfinite(part).all()
    assert (model.noise > 0).all()
    assert model.noise.max() < 0.02


def test_the_mean_is_a_face_in_the_head_frame(model):
    place = {number: row for row, number in enumerate(model.indices.tolist())}
    nose = model.mean[place[NOSE]]
    assert nose[2] == model.mean[:, 2].max()  # z out of the face
    assert model.mean[:, 1].min() < nose[1] < model.mean[:, 1].max()
    assert np.ptp(model.mean, axis=0) == pytest.approx([0.29, 0.33, 0.2], abs=0.05)


def test_the_model_knows_no_side(model, partners):
    assert (partners[partners] == np.arange(len(partners))).all()
    flip = np.array([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(model.mean[partners] * flip, model.mean, atol=2e-3)
    np.testing.assert_allclose(model.noise[partners], model.noise, rtol=0.05, atol=1e-4)
    yaw, pitch = np.array([0.5]), np.array([0.2])
    to_left = model.drift @ face_model.drift_features(yaw, pitch)[0]
    to_right = model.drift @ face_model.drift_features(-yaw, pitch)[0]
    np.testing.assert_allclose(to_right[partners] * flip, to_left, atol=4e-3)
    for modes in (model.identity, model.frame):  # as a whole: their variances and the mirrored
        spread = np.einsum("ncv,ndv->ncd", modes, modes)
        mirrored = spread[partners] * np.outer(flip, flip)
        assert np.abs(mirrored - spread).max() < 0.1 * np.abs(spread).max()


def test_from_the_front_nothing_drifts():
    assert not face_model.drift_features(np.zeros(2), np.zeros(2)).any()


def test_slopes_of_the_drift_are_those_of_small_steps():
    generator = np.random.default_rng(0)
    yaw, pitch = generator.uniform(-1.0, 1.0, (2, 30))
    by_yaw, by_pitch = face_model.drift_slopes(yaw, pitch)
    step = 1e-6
    for slopes, (dy, dp) in ((by_yaw, (step, 0.0)), (by_pitch, (0.0, step))):
        later = face_model.drift_features(yaw + dy, pitch + dp)
        earlier = face_model.drift_features(yaw - dy, pitch - dp)
        np.testing.assert_allclose(slopes, (later - earlier) / (2 * step), atol=1e-8)


def test_angles_are_the_cameras_where_the_heads_have_the_persons_signs():
    poses = heads.cameras([0.0, 20.0, -35.0, 60.0], [0.0, 10.0, -25.0, 5.0], [0, 15.0, -5.0, 0])
    yaw, pitch = head_angles.view_angles(poses[:, :3, :3])
    held = head_angles.from_cameras(poses)
    np.testing.assert_allclose(np.degrees(yaw), -held[:, 0], atol=1e-9)
    np.testing.assert_allclose(np.degrees(pitch), -held[:, 1], atol=1e-9)
