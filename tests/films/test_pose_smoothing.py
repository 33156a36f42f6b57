"""Smoothing in time: noise goes, what a head does stays."""

import numpy as np
import pytest

from ganavatar_jax.films import pose_smoothing
from ganavatar_jax.geometry import rotation_vectors
from helpers import heads

TOLD_DEG = 1.0  # What each pose is said to be good to; most of that stays from frame to frame.
NO_CUT = np.zeros(1, np.int64)


def film(yaw, pitch=0.0, *, noise_deg=0.3, seed=0):
    """True rotations and translations of a head, and noisy ones with their precision."""
    rotation = np.swapaxes(heads.cameras(yaw, pitch)[:, :3, :3], 1, 2)
    translation = np.tile([0.0, 0.0, 2.7], (len(yaw), 1))
    generator = np.random.default_rng(seed)
    sigma = np.repeat([np.radians(TOLD_DEG), 0.01], 3)
    noise = (noise_deg / TOLD_DEG) * sigma * generator.normal(size=(len(yaw), 6))
    shaken = rotation_vectors.exp(noise[:, :3]) @ rotation, translation + noise[:, 3:]
    precision = np.tile(np.diag(sigma**-2), (len(yaw), 1, 1))
    return (rotation, translation), shaken, precision


def errors_deg(found, truth):
    return rotation_vectors.angle_deg(found[0], truth[0])


@pytest.mark.parametrize(("noise_deg", "left"), [(0.1, 0.45), (0.3, 0.6), (1.0, 0.8)])
def test_noise_goes_and_slow_motion_stays(noise_deg, left):
    truth, shaken, precision = film(
        heads.swing(-40.0, 40.0), heads.swing(-10.0, 10.0, turns=3.0), noise_deg=noise_deg
    )
    found = pose_smoothing.smooth(*shaken, precision, NO_CUT)
    assert np.median(errors_deg(found, truth)) < left * np.median(errors_deg(shaken, truth))
    moved = np.linalg.norm(found[1] - truth[1], axis=1)
    assert np.median(moved) < left * np.median(np.linalg.norm(shaken[1] - truth[1], axis=1))
    np.testing.assert_allclose(np.linalg.det(found[0]), 1.0)


def test_quick_nods_and_turns_without_noise_stay_as_they_are():
    # Four nods a second, at 25 frames.
    truth, shaken, precision = film(
        heads.swing(-30.0, 30.0, turns=8.0), heads.swing(-8.0, 8.0, turns=32.0), noise_deg=0.0
    )
    found = pose_smoothing.smooth(*shaken, precision, NO_CUT)
    assert errors_deg(found, truth).max() < 1.5
    assert np.median(errors_deg(found, truth)) < 0.5


@pytest.mark.parametrize("told", [True, False])
def test_a_cut_stays_sharp(told):
    yaw = np.where(np.arange(120) < 60, -15.0, 15.0)
    truth, shaken, precision = film(yaw)
    starts = np.array([0, 60]) if told else NO_CUT
    found = pose_smoothing.smooth(*shaken, precision, starts)
    beside = errors_deg(found, truth)[55:65]
    assert beside.max() < 1.0  # The noise's; a step that is smoothed would be off by degrees.
    assert np.median(errors_deg(found, truth)) < 0.6 * np.median(errors_deg(shaken, truth))


def test_no_pose_crosses_a_start():
    _, shaken, precision = film(heads.swing(-20.0, 20.0, count=60))
    whole = pose_smoothing.smooth(*shaken, precision, np.array([0, 30]))
    changed = shaken[0].copy(), shaken[1].copy()
    changed[1][30:] += [0.0, 0.0, 5.0]
    other = pose_smoothing.smooth(*changed, precision, np.array([0, 30]))
    np.testing.assert_allclose(other[0][:30], whole[0][:30], atol=1e-9)
    np.testing.assert_allclose(other[1][:30], whole[1][:30], atol=1e-9)


def test_a_sure_pose_stays_and_an_unsure_one_moves():
    truth, shaken, precision = film(np.zeros(60), noise_deg=0.0)
    bent = shaken[0].copy()
    bent[[20, 40]] = heads.cameras([4.0, 4.0])[:, :3, :3].swapaxes(1, 2)
    precision[20] *= 1e4
    precision[40] *= 1e-2
    found = pose_smoothing.smooth(bent, shaken[1], precision, NO_CUT)
    left = errors_deg(found, truth)
    assert left[20] > 3.0
    assert left[40] < 1.0


@pytest.mark.parametrize("count", [1, 2])
def test_films_without_a_middle_stay(count):
    _, shaken, precision = film(np.linspace(0.0, 10.0, count))
    found = pose_smoothing.smooth(*shaken, precision, NO_CUT)
    np.testing.assert_array_equal(found[0], shaken[0])
    np.testing.assert_array_equal(found[1], shaken[1])


def test_frames_that_are_all_starts_stay():
    _, shaken, precision = film(heads.swing(-20.0, 20.0, count=20))
    found = pose_smoothing.smooth(*shaken, precision, np.arange(20))
    np.testing.assert_array_equal(found[0], shaken[0])
