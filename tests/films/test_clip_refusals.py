"""Stills and drawings are told from people by numbers alone."""

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.data.formats import video_file
from ganavatar_jax.faces import mesh_outline
from ganavatar_jax.films import clip_refusals, video_landmarks
from helpers import layouts

SIZE = 200


@pytest.fixture
def face():
    """Landmarks with the oval on a circle and the eyes 40 pixels apart."""
    points = np.random.default_rng(0).uniform(70, 130, (478, 3)).astype(np.float32)
    turn = np.linspace(0, 2 * np.pi, len(mesh_outline.OVAL) - 1, endpoint=False)
    oval = 100 + 60 * np.stack([np.sin(turn), -np.cos(turn)], axis=1)
    points[list(mesh_outline.OVAL[:-1]), :2] = oval
    points[33, :2], points[263, :2] = (80, 90), (120, 90)
    return points


def shaded():
    """Skin under light from one side."""
    x = np.linspace(120, 220, SIZE)[None] + np.linspace(-30, 30, SIZE)[:, None]
    return np.stack([x, 0.8 * x, 0.6 * x], axis=-1).astype(np.uint8)


def drawn(face):
    image = np.full((SIZE, SIZE, 3), (250, 214, 170), np.uint8)
    image[85:95, 75:125] = (60, 80, 200)
    return image


@pytest.fixture
def film(tmp_path):
    """Makes a film that shows one picture, with whatever landmarks."""

    def make(image, landmarks, *, presence=1.0):
        layouts.save_video(tmp_path / "me.mp4", [image] * len(landmarks))
        count = len(landmarks)
        code = np.zeros((count, 1), np.float32)
        tracks = video_landmarks.Tracks(
            np.arange(count),
            landmarks,
            code,
            ("jawOpen",),
            np.full(count, presence, np.float32),
            np.arange(count) / 25.0,
        )
        return video_file.VideoFile(tmp_path / "me.mp4", where="me.mp4"), tracks

    return make


def moving(face, *, share, count=40):
    """A face that sways by a share of the distance of its eyes."""
    sway = 40 * share * np.sin(np.linspace(0, 4 * np.pi, count))
    points = np.tile(face, (count, 1, 1))
    points[..., 0] += sway[:, None].astype(np.float32)
    return points


def test_one_picture_again_and_again_is_refused(face, film):
    noise = np.random.default_rng(1).normal(0, 0.03, (40, 478, 3)).astype(np.float32)
    video, tracks = film(shaded(), face + noise)
    with pytest.raises(errors.DataFormatError, match=r"me\.mp4: motion is missing.*40 frames"):
        clip_refusals.refuse("me.mp4", video, tracks)


def test_a_person_who_sways_a_little_is_not(face, film):
    video, tracks = film(shaded(), moving(face, share=0.02))
    clip_refusals.refuse("me.mp4", video, tracks)


def affine(face, count, *, noise_px=0.05):
    """A picture that is shifted, turned and stretched."""
    generator = np.random.default_rng(2)
    maps = np.eye(2) + generator.normal(0.0, 0.05, (count, 2, 2))
    points = np.tile(face, (count, 1, 1))
    points[..., :2] = face[:, :2] @ maps + generator.normal(0.0, 10.0, (count, 1, 2))
    return points + generator.normal(0.0, noise_px, points.shape).astype(np.float32)


def test_a_photograph_that_is_moved_is_refused(face, film):
    video, tracks = film(shaded(), affine(face, 60))
    assert clip_refusals.motion_share(tracks.landmarks) > 0.1
    with pytest.raises(errors.DataFormatError, match=r"expression is missing.*photograph.*speaks"):
        clip_refusals.refuse("me.mp4", video, tracks)
    spoken = tracks.landmarks.copy()
    spoken[20:26, :60, 1] += 6.0  # lips and jaw
    clip_refusals.refuse("me.mp4", video, tracks._replace(landmarks=spoken))


def test_motion_is_measured_in_distances_of_the_eyes(face):
    once, twice = moving(face, share=0.1), 2.0 * moving(face, share=0.1)
    assert clip_refusals.motion_share(once) == pytest.approx(0.1, rel=0.1)
    assert clip_refusals.motion_share(twice) == pytest.approx(clip_refusals.motion_share(once))


def test_a_drawn_face_is_refused(face, film):
    video, tracks = film(drawn(face), moving(face, share=0.1))
    with pytest.raises(errors.DataFormatError, match=r"me\.mp4: a real face is missing.*cartoons"):
        clip_refusals.refuse("me.mp4", video, tracks)


def test_what_is_hardly_a_face_is_refused(face, film):
    video, tracks = film(shaded(), moving(face, share=0.1), presence=0.82)
    with pytest.raises(errors.DataFormatError, match=r"a face is missing.*hardly.*0\.82.*front"):
        clip_refusals.refuse("me.mp4", video, tracks)


def test_burnt_out_and_black_parts_of_a_face_are_no_drawing(face):
    image = shaded()
    image[:, 90:] = 255
    assert clip_refusals.flat_share(image, face) == 0.0
    image[:, 90:] = 0
    assert clip_refusals.flat_share(image, face) == 0.0
    assert clip_refusals.flat_share(shaded(), face) < 0.1
    assert clip_refusals.flat_share(drawn(face), face) > 0.8
