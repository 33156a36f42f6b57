"""A structure is carried into the head frame and believed where the face agrees."""

import dataclasses

import numpy as np
import pytest

from ganavatar_jax.films import head_poses, pose_agreement
from ganavatar_jax.geometry import rotation_vectors
from helpers import heads, layouts

FRAMES = 120
OWN_DEG, SHARED_DEG = 0.8, 2.0
ALL = np.ones(FRAMES, bool)


def face(cameras, *, noise_deg=0.6, seed=0):
    """What landmarks would find of a head before these cameras."""
    generator = np.random.default_rng(seed)
    world2cam, count = np.linalg.inv(cameras), len(cameras)
    noise = np.radians(noise_deg) * generator.normal(size=(count, 3)) / np.sqrt(3.0)
    shift = 0.004 * generator.normal(size=(count, 3))
    return head_poses.HeadPoses(
        rotation_vectors.exp(noise) @ world2cam[:, :3, :3],
        world2cam[:, :3, 3] + shift,
        1500.0,
        np.ones(count),
        np.full((count, 3), np.hypot(OWN_DEG, SHARED_DEG)),
        np.full((count, 3), SHARED_DEG),
    )


def turning(share=1.0):
    """Cameras of a head that turns and nods, or that seems to do so by a share only."""
    return heads.cameras(
        share * heads.swing(-45.0, 45.0, count=FRAMES),
        share * heads.swing(-12.0, 12.0, turns=3.0, count=FRAMES),
    )


def elsewhere(cameras, *, seed=3):
    """The same cameras in another world."""
    turn, moved = layouts.rotation(seed), cameras.copy()
    moved[:, :3, :3] = turn @ cameras[:, :3, :3]
    moved[:, :3, 3] = 3.7 * cameras[:, :3, 3] @ turn.T + [5.0, -2.0, 1.0]
    return moved


def apart_deg(first, second):
    return rotation_vectors.angle_deg(first[:, :3, :3], second[:, :3, :3])


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_a_structure_in_any_world_comes_back(seed):
    truth = turning()
    found = pose_agreement.agree(face(truth), elsewhere(truth, seed=seed), ALL)
    assert apart_deg(found.cam2world, truth).max() < 0.3
    assert np.abs(found.cam2world[:, :3, 3] - truth[:, :3, 3]).max() < 0.02
    assert found.accepted.all()
    assert found.share == 1.0
    assert found.median_deg < 1.0
    assert (found.sigma_deg > SHARED_DEG).all()  # Whose face it is stays as unsure as before.
    assert (found.sigma_deg < np.hypot(OWN_DEG, SHARED_DEG)).all()


def test_frames_that_are_wrong_are_not_believed():
    truth = turning()
    structure = elsewhere(truth)
    turned, shifted = np.arange(10, 34), np.arange(60, 70)
    away = rotation_vectors.exp(np.tile([[0.0, np.radians(12.0), 0.0]], (len(turned), 1)))
    structure[turned, :3, :3] = structure[turned, :3, :3] @ away
    structure[shifted, :3, 3] += 3.7 * 0.2 * structure[shifted, :3, 0]
    found = pose_agreement.agree(face(truth), structure, ALL)
    assert set(np.flatnonzero(~found.accepted)) == {*turned, *shifted}
    right = found.accepted
    assert apart_deg(found.cam2world[right], truth[right]).max() < 0.5
    assert found.share == pytest.approx(right.mean())


def test_a_structure_that_hardly_turns_is_not_believed_where_the_head_does():
    truth = turning()
    found = pose_agreement.agree(face(truth), elsewhere(turning(0.7)), ALL)
    yaw = np.abs(heads.swing(-45.0, 45.0, count=FRAMES))
    assert not found.accepted[yaw > 25.0].any()
    assert not found.accepted.all()
    # Three deviations, and the noise of the face's own poses.
    assert (
        apart_deg(found.cam2world, truth)[found.accepted].max() < 3.0 * np.sqrt(3) * OWN_DEG + 1.0
    )


def test_faces_near_the_front_place_the_structure():
    # Landmarks flatten turns to one side: frames from there must not turn the whole.
    yaw = heads.swing(-5.0, 65.0, count=FRAMES)
    truth, flattened = (
        heads.cameras(yaw),
        heads.cameras(np.where(yaw > 20, 20 + 0.7 * (yaw - 20), yaw)),
    )
    found = pose_agreement.agree(face(flattened), elsewhere(truth), ALL)
    assert np.median(apart_deg(found.cam2world, truth)) < 1.0
    assert found.accepted[yaw < 20.0].all()


def test_all_frames_are_as_unsure_as_those_that_place_them():
    truth = turning()
    aside = np.abs(heads.swing(-45.0, 45.0, count=FRAMES)) > 35.0
    poses = face(truth)
    sure = np.where(aside[:, None], 0.5, poses.shared_deg)
    found = pose_agreement.agree(dataclasses.replace(poses, shared_deg=sure), elsewhere(truth), ALL)
    assert (found.sigma_deg > 0.9 * SHARED_DEG).all()
    assert np.ptp(found.sigma_deg, axis=0).max() == 0.0


def test_unknown_frames_are_not_believed_and_do_not_count():
    truth = turning()
    structure, known = elsewhere(truth), np.arange(FRAMES) % 3 > 0
    structure[~known, :3, :3] = layouts.rotation(9)
    found = pose_agreement.agree(face(truth), structure, known)
    np.testing.assert_array_equal(found.accepted, known)
    assert found.median_deg < 1.0
    assert apart_deg(found.cam2world[known], truth[known]).max() < 0.5


def test_of_nothing_nothing_is_believed():
    truth = turning()
    found = pose_agreement.agree(face(truth), elsewhere(truth), ~ALL)
    assert not found.accepted.any()
    assert found.share == 0.0
    assert np.isnan(found.median_deg)


def test_noise_is_not_agreement():
    structure = turning()
    structure[:, :3, :3] = np.stack([layouts.rotation(seed) for seed in range(FRAMES)])
    found = pose_agreement.agree(face(turning()), structure, ALL)
    assert found.share < 0.1
    assert found.median_deg > 30.0
