import numpy as np
import pytest

from ganavatar_jax.films import head_poses
from helpers import layouts

FRAMES, FOCAL = 40, 1000.0


@pytest.fixture(scope="module")
def face():
    """A face of 50 points in centimetres, y up, z out of it."""
    generator = np.random.default_rng(0)
    return generator.uniform([-7, -4, 0], [7, 8, 7], (50, 3))


def turn(yaw, pitch):
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.diag([1.0, -1.0, -1.0]) @ about_y @ [[1, 0, 0], [0, cp, -sp], [0, sp, cp]]


def film(points, *, noise_px=0.0, seed=1):
    """A head that turns and nods before a camera: landmarks in pixels, and the truth."""
    time = np.linspace(0, 2 * np.pi, FRAMES)
    rotation = np.stack([turn(0.6 * np.sin(t), 0.3 * np.cos(2 * t)) for t in time])
    shift = np.stack([3 * np.sin(time), np.cos(time), 150 + 5 * np.sin(2 * time)], axis=1)
    local = np.einsum("fij,nj->fni", rotation, points) + shift[:, None]
    pixels = FOCAL * local / shift[:, None, 2:]
    pixels[..., :2] = FOCAL * local[..., :2] / local[..., 2:] + [320, 240]
    generator = np.random.default_rng(seed)
    pixels[..., :2] += noise_px * generator.normal(size=pixels[..., :2].shape)
    return pixels, rotation, shift


def solve(pixels, points, **options):
    arguments = {"center_px": np.array([320.0, 240.0]), "distance_cm": 150.0}
    starts = np.zeros(1, np.int64)
    return head_poses.solve(pixels, points, **(arguments | {"starts": starts} | options))


def angles_deg(first, second):
    cosine = (np.einsum("fij,fij->f", first, second) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_poses_are_recovered_from_landmarks(face):
    pixels, rotation, _ = film(face, noise_px=0.5)
    found = solve(pixels, face)
    assert np.median(angles_deg(found.rotation, rotation)) < 0.7
    assert np.median(found.residual_px) < 1.0
    assert found.focal_px == pytest.approx(FOCAL, rel=0.05)


def test_a_person_of_another_shape_is_measured(face):
    person = face + 0.4 * np.random.default_rng(2).normal(size=face.shape)
    pixels, rotation, _ = film(person, noise_px=0.2)
    found = solve(pixels, face)
    before = np.linalg.norm(face - person, axis=1).mean()
    after = np.linalg.norm(found.points - person, axis=1).mean()
    assert after < 0.75 * before
    assert np.median(found.residual_px) < 0.5


def test_some_landmarks_that_are_wrong_do_not_count(face):
    pixels, rotation, _ = film(face)
    pixels[:, :4, :2] += 40.0
    found = solve(pixels, face)
    assert np.median(angles_deg(found.rotation, rotation)) < 3.0


def test_smoothing_takes_noise_and_leaves_motion(face):
    pixels, rotation, _ = film(face, noise_px=4.0)
    together = solve(pixels, face)
    apart = solve(pixels, face, starts=np.arange(FRAMES))
    smooth = angles_deg(together.rotation, rotation)
    rough = angles_deg(apart.rotation, rotation)
    assert np.median(smooth) < np.median(rough)


def test_the_logarithm_undoes_the_exponential():
    turns = np.stack([layouts.rotation(seed, degrees=170.0) for seed in range(8)])
    np.testing.assert_allclose(head_poses._exp(head_poses._log(turns)), turns, atol=1e-7)


def test_amplified_turns_keep_where_the_head_is_seen():
    poses = np.tile(np.eye(4), (3, 1, 1))
    for index, (yaw, pitch) in enumerate([(0.0, 0.0), (0.3, 0.1), (-0.6, -0.3)]):
        poses[index, :3, :3] = turn(yaw, pitch).T @ layouts.rotation(0, degrees=5.0)
        poses[index, :3, 3] = -poses[index, :3, :3] @ [0.1, -0.2, 2.7]
    same = head_poses.amplify_turns(poses, (1.0, 1.0))
    np.testing.assert_allclose(same, poses, atol=1e-12)
    wider = head_poses.amplify_turns(poses, (0.8, 0.5))

    def facing(cameras):
        backward = -cameras[:, :3, 2]
        return np.arctan2(backward[:, 0], backward[:, 2]), np.arcsin(backward[:, 1])

    np.testing.assert_allclose(facing(wider)[0], facing(poses)[0] / 0.8, atol=1e-9)
    np.testing.assert_allclose(facing(wider)[1], facing(poses)[1] / 0.5, atol=1e-9)
    seen = -np.einsum("fji,fj->fi", wider[:, :3, :3], wider[:, :3, 3])
    np.testing.assert_allclose(seen, np.tile([0.1, -0.2, 2.7], (3, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(wider[:, :3, :3]), 1.0)
