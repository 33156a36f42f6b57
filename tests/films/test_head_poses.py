"""Poses of heads whose landmarks are drawn from the model itself: anybody, with any expression."""

import dataclasses

import numpy as np
import pytest

from ganavatar_jax.films import face_model, head_poses
from ganavatar_jax.geometry import head_angles, rotation_vectors
from helpers import heads, layouts

FRAMES, PEOPLE, FOCAL = 24, 8, 1500.0
STARTS = np.zeros(1, np.int64)
MODEL = face_model.load_face_model()
JAW = "jaw"
UPPER_LIDS = (246, 161, 160, 159, 158, 157, 173, 466, 388, 387, 386, 385, 384, 398)


def solve(landmarks, **options):
    given = {"center_px": heads.CENTER_PX, "distance": 2.7, "starts": STARTS}
    return head_poses.solve(landmarks, MODEL, **(given | options))


def held_deg(found):
    """How the head is held, degrees."""
    poses = np.tile(np.eye(4), (len(found.rotation), 1, 1))
    poses[:, :3, :3] = np.swapaxes(found.rotation, 1, 2)
    return head_angles.from_cameras(poses)


def moving(*, pitch=0.0, count=FRAMES):
    """Cameras of a head that turns to both sides, nods and tilts a little."""
    return heads.cameras(
        heads.swing(-35.0, 35.0, turns=1.0, count=count),
        pitch + heads.swing(-8.0, 8.0, turns=1.5, count=count),
        heads.swing(-4.0, 4.0, turns=0.5, count=count),
    )


@pytest.fixture(scope="module")
def people():
    """Errors and deviations of the angles of some people's films, [p f 3]."""
    errors, sigma, shared = [], [], []
    for seed in range(PEOPLE):
        generator = np.random.default_rng(seed)
        # As far from level as the solver takes cameras of films to be.
        cameras = moving(pitch=head_poses._LEVEL_DEG * generator.normal())
        landmarks = heads.landmarks(cameras, heads.Person.draw(generator), generator)
        found = solve(landmarks)
        errors.append(held_deg(found) - head_angles.from_cameras(cameras))
        sigma.append(found.sigma_deg)
        shared.append(found.shared_deg)
    return np.array(errors), np.array(sigma), np.array(shared)


def test_anybodys_poses_are_found(people):
    errors, _, _ = people
    yaw, pitch, roll = np.median(np.abs(errors), axis=(0, 1))
    assert yaw < 1.2
    assert pitch < 2.0
    assert roll < 1.2
    within = errors - errors.mean(axis=1, keepdims=True)  # How the head moves, whoever it is.
    assert np.median(np.abs(within)) < 0.6


def test_errors_lie_within_what_is_told_of_them(people):
    errors, sigma, shared = people
    assert ((np.abs(errors) < sigma).mean(axis=(0, 1)) > 0.68).all()
    assert ((np.abs(errors) < 2.0 * sigma).mean(axis=(0, 1)) >= 0.95).all()
    assert ((np.abs(errors).max(axis=2) < 2.0 * sigma.max(axis=2)).mean(axis=1) >= 0.9).all()
    assert np.median(sigma) < 4.0  # What is told is no excuse.
    assert (shared < sigma).all()
    assert np.median(shared[..., 1]) > np.median(shared[..., 0])  # Faces hide nods, not turns.


def test_the_mean_face_is_found_exactly():
    generator = np.random.default_rng(0)
    cameras = heads.cameras(heads.swing(-35.0, 35.0, count=60))  # Level, as cameras usually are.
    person = heads.Person.draw(generator, size=0.0)
    landmarks = heads.landmarks(cameras, person, generator, expression=0.0, noise=0.0)
    found = solve(landmarks, focal_px=FOCAL)
    assert np.abs(held_deg(found) - head_angles.from_cameras(cameras)).max() < 0.6
    assert np.abs(found.translation - [0.0, 0.0, 2.7]).max() < 0.04
    assert np.median(found.residual_px) < 0.5


@pytest.mark.parametrize("seed", range(6))
def test_whoever_looks_into_the_lens_comes_out_frontal(seed):
    generator = np.random.default_rng(100 + seed)
    still = heads.cameras(0.3 * generator.normal(size=20), 0.3 * generator.normal(size=20))
    found = solve(heads.landmarks(still, heads.Person.draw(generator), generator))
    yaw, pitch, roll = np.median(held_deg(found), axis=0)
    assert abs(yaw) < 4.0
    assert abs(pitch) < 4.0
    assert abs(roll) < 4.0


def test_landmarks_that_are_wrong_do_not_count():
    cameras, generator = moving(), np.random.default_rng(0)
    landmarks = heads.landmarks(cameras, heads.Person.draw(generator), generator)
    right = solve(landmarks)
    wrong, side = landmarks.copy(), MODEL.indices[np.argsort(MODEL.mean[:, 0])[:10]]
    wrong[:, side] += [40.0, -30.0, 20.0]
    found = solve(wrong)
    assert rotation_vectors.angle_deg(found.rotation, right.rotation).max() < 1.5
    rigid = head_poses.fit_mean(wrong[:, MODEL.indices], MODEL.mean)[0]
    whole = head_poses.fit_mean(landmarks[:, MODEL.indices], MODEL.mean)[0]
    assert np.median(rotation_vectors.angle_deg(rigid, whole)) > 2.0  # They would turn the head.


def test_frames_that_show_something_else_fit_badly():
    cameras, generator = moving(), np.random.default_rng(0)
    landmarks = heads.landmarks(cameras, heads.Person.draw(generator), generator)
    landmarks[[7, 20]] = landmarks[[7, 20]][:, generator.permutation(478)]
    found = solve(landmarks)
    worst = np.argsort(found.residual_px)[-2:]
    assert set(worst.tolist()) == {7, 20}
    assert found.residual_px[worst].min() > 4.0 * np.median(found.residual_px)


def expression_of(part):
    """The usual way in which jaws open or lids close, by three deviations."""
    if part == JAW:
        lip = MODEL.mean[MODEL.indices.tolist().index(14), 1]
        moved = MODEL.mean[:, 1] <= lip
    else:
        moved = np.isin(MODEL.indices, UPPER_LIDS)
    assert moved.sum() >= 2
    direction = -(MODEL.frame[:, 1] * moved[:, None]).sum(axis=0)
    return 3.0 * direction / np.linalg.norm(direction)


@pytest.mark.parametrize("part", [JAW, "lids"])
def test_an_expression_does_not_turn_the_head(part):
    generator = np.random.default_rng(0)
    wide = expression_of(part)
    cameras = heads.cameras(heads.swing(-5.0, 5.0, count=FRAMES))
    apart = np.arange(FRAMES) // 5 % 2  # Opened and closed for five frames each.
    landmarks = heads.landmarks(
        cameras, heads.Person.draw(generator), generator, expression=apart[:, None] * wide
    )
    held = held_deg(solve(landmarks)) - head_angles.from_cameras(cameras)
    change = np.median(held[apart == 1], axis=0) - np.median(held[apart == 0], axis=0)
    assert np.abs(change).max() < 1.0


def test_a_known_focal_length_is_used():
    cameras, generator = moving(), np.random.default_rng(0)
    cameras[:, :3, 3] *= 1.5
    person = heads.Person.draw(generator)
    landmarks = heads.landmarks(cameras, person, generator, focal_px=700.0)
    known = solve(landmarks, focal_px=700.0)
    assert known.focal_px == 700.0
    assert np.median(known.translation[:, 2]) == pytest.approx(1.5 * 2.7, rel=0.12)
    guessed = solve(landmarks)
    assert np.median(guessed.translation[:, 2]) == pytest.approx(2.7, rel=0.03)
    # The head has the same size in the picture.
    ratio = known.translation[:, 2] / guessed.translation[:, 2]
    np.testing.assert_allclose(ratio, known.focal_px / guessed.focal_px, rtol=0.02)


@pytest.mark.parametrize("count", [1, 2])
def test_films_of_one_and_two_frames_have_poses(count):
    generator = np.random.default_rng(0)
    cameras = heads.cameras(np.linspace(-10.0, 10.0, count + 2)[1:-1], np.full(count, 4.0))
    found = solve(heads.landmarks(cameras, heads.Person.draw(generator), generator))
    errors = np.abs(held_deg(found) - head_angles.from_cameras(cameras))
    assert (errors < 2.0 * found.sigma_deg).all()
    assert found.sigma_deg.shape == (count, 3)


def test_frames_are_taken_together():
    generator = np.random.default_rng(0)
    cameras = moving(count=8)
    found = solve(heads.landmarks(cameras, heads.Person.draw(generator), generator))
    part = found.take(np.array([5, 2]))
    assert part.focal_px == found.focal_px
    for name in ("rotation", "translation", "residual_px", "sigma_deg", "shared_deg"):
        np.testing.assert_array_equal(getattr(part, name), getattr(found, name)[[5, 2]])


def test_the_cameras_usual_height_decides_as_far_as_nothing_else_does():
    rotation = np.swapaxes(heads.cameras(np.zeros(3), np.array([8.0, 10.0, 12.0]))[:, :3, :3], 1, 2)

    def pitch(sigma_deg):
        turned = rotation @ head_poses._level_turn(rotation, sigma_deg)
        _, above = head_angles.view_angles(np.swapaxes(turned, 1, 2))
        return -np.degrees(above)

    np.testing.assert_allclose(pitch(1e-3), [8.0, 10.0, 12.0], atol=1e-3)
    np.testing.assert_allclose(pitch(1e3), [-2.0, 0.0, 2.0], atol=1e-3)
    np.testing.assert_allclose(pitch(head_poses._LEVEL_DEG), [3.0, 5.0, 7.0], atol=1e-6)


def test_frames_near_the_front_decide_about_the_person():
    yaw = np.concatenate([np.linspace(-60.0, -30.0, 100), np.zeros(40)])
    rotation = np.swapaxes(heads.cameras(yaw)[:, :3, :3], 1, 2)
    assert head_poses._choose_frames(rotation).tolist() == list(range(100, 140))
    chosen = head_poses._choose_frames(rotation[:100])  # Never frontal: the nearest ones.
    assert chosen.tolist() == list(range(80, 100))
    many = np.repeat(rotation[100:], 10, axis=0)
    assert len(head_poses._choose_frames(many)) == head_poses._SHAPE_FRAMES


def test_a_head_of_known_shape_is_fitted_in_any_pose():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(20, 3))
    turns = np.stack([layouts.rotation(seed) for seed in range(5)])
    scale, shift = generator.uniform(50.0, 90.0, 5), generator.normal(size=(5, 3))
    seen = scale[:, None, None] * np.einsum("fij,nj->fni", turns, points) + shift[:, None]
    rotation, found, place = head_poses.fit_mean(seen, points)
    np.testing.assert_allclose(rotation, turns, atol=1e-9)
    np.testing.assert_allclose(found, scale)
    np.testing.assert_allclose(place, shift[:, :2], atol=1e-8)


@pytest.fixture
def problem():
    """A problem, and a state that explains it but for nothing."""
    generator = np.random.default_rng(0)
    cameras = moving(count=5)
    world2cam = np.linalg.inv(cameras)
    lasting = np.concatenate([MODEL.identity, np.sqrt(0.5) * MODEL.frame], axis=-1)
    passing = np.sqrt(0.5) * MODEL.frame
    state = head_poses._State(
        world2cam[:, :3, :3],
        world2cam[:, :3, 3] + [0.1, -0.05, 0.0],
        generator.normal(size=(5, passing.shape[-1])),
        generator.normal(size=lasting.shape[-1]),
    )
    shape = (5, len(MODEL.indices), 3)
    noise = generator.uniform(1.0, 3.0, shape)
    made = head_poses._Problem(
        np.zeros(shape), FOCAL, noise, np.full(5, 2.7), MODEL, lasting, passing
    )
    return dataclasses.replace(made, seen=head_poses._project(made, state)[0]), state


def moved(state, which, step):
    """The state after a small step of one unknown of each frame (or of the person: 100 and on)."""
    rotation, translation = state.rotation, state.translation.copy()
    expression, person = state.expression.copy(), state.person.copy()
    if which < 3:
        rotation = rotation_vectors.exp(np.tile(step * np.eye(3)[which], (5, 1))) @ rotation
    elif which < 6:
        translation[:, which - 3] += step
    elif which < 100:
        expression[:, which - 6] += step
    else:
        person[which - 100] += step
    return head_poses._State(rotation, translation, expression, person)


@pytest.mark.parametrize("which", [0, 1, 2, 3, 4, 5, 6, 17, 100, 131, 170])
def test_slopes_are_those_of_small_steps(problem, which):
    given, state = problem
    step = 1e-5
    later, earlier = (
        head_poses._project(given, moved(state, which, sign * step))[0] for sign in (1.0, -1.0)
    )
    expected = ((later - earlier) / (2.0 * step) / given.noise).reshape(5, -1)
    _, own, person = head_poses._linearize(given, state, with_person=True)
    slopes = own[..., which] if which < 100 else person[..., which - 100]
    np.testing.assert_allclose(slopes, expected, atol=1e-4 * np.abs(expected).max())


def test_slopes_of_the_angles_are_those_of_small_turns():
    cameras = heads.cameras([0.0, 30.0, -50.0, 15.0], [0.0, 10.0, -20.0, 25.0], [0, 0, 8.0, -5.0])
    rotation = np.swapaxes(cameras[:, :3, :3], 1, 2)
    slopes, step = head_angles.turn_slopes(rotation), 1e-6
    for axis in range(3):
        little = rotation_vectors.exp(step * np.eye(3)[axis : axis + 1])[0]
        views = [np.swapaxes(turn @ rotation, 1, 2) for turn in (little, little.T)]
        (yaw, pitch), (yaw_before, pitch_before) = map(head_angles.view_angles, views)
        np.testing.assert_allclose(slopes[:, 0, axis], (yaw - yaw_before) / (2 * step), atol=1e-6)
        found = (pitch - pitch_before) / (2 * step)
        np.testing.assert_allclose(slopes[:, 1, axis], found, atol=1e-6)
