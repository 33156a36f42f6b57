"""Views, ways from face to face, frames shown again: cameras and codes are where they should be."""

import dataclasses
import json

import av
import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.apps import films_out, interpolate, novel_view, reenact, use_config
from ganavatar_jax.core import errors
from ganavatar_jax.faces import normalization, precomputed
from ganavatar_jax.geometry import cameras
from helpers import compiled, tiny_pages

CODES, NAMES = tiny_pages.CODES, tiny_pages.NAMES


@pytest.fixture(scope="module")
def person():
    with compiled.quickly():
        yield tiny_pages.make_person(white_back=True)


def test_an_ellipse_swings_to_both_sides_and_closes(person):
    config = use_config.NovelViewConfig(path="ellipse", frames=40, yaw_deg=30.0, pitch_deg=10.0)
    labels = novel_view.make_cameras(config, person.frontal_label25)
    yaw_deg, pitch_deg = cameras.yaw_pitch_deg(cameras.from_label25(labels).cam2world)
    assert np.asarray(yaw_deg).max() == pytest.approx(30.0, abs=0.5)
    assert np.asarray(yaw_deg).min() == pytest.approx(-30.0, abs=0.5)
    assert np.asarray(pitch_deg).max() == pytest.approx(10.0, abs=0.5)
    steps = np.linalg.norm(np.diff(np.concatenate([labels, labels[:1]]), axis=0), axis=1)
    assert steps.max() < 1.5 * np.median(steps) + 0.1


@pytest.mark.parametrize("bare", [False, True])
def test_given_cameras_are_taken_as_they_are(person, tmp_path, bare):
    labels = np.tile(person.frontal_label25, (3, 1))
    rows = [label.astype(float).tolist() for label in labels]
    content = rows if bare else {"labels": [[f"{i}.png", row] for i, row in enumerate(rows)]}
    (tmp_path / "c.json").write_text(json.dumps(content))
    config = use_config.NovelViewConfig(path="cameras", cameras=str(tmp_path / "c.json"))
    np.testing.assert_allclose(novel_view.make_cameras(config, person.frontal_label25), labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a JSON file of cameras"),
        ("[]", "expected cameras"),
        ('{"labels": [["a", [1, 2]]]}', "expected cameras"),
        (json.dumps([[2.0] * 25]), "expected rigid poses"),
    ],
)
def test_other_files_are_no_cameras(tmp_path, text, message):
    (tmp_path / "c.json").write_text(text)
    config = use_config.NovelViewConfig(path="cameras", cameras=str(tmp_path / "c.json"))
    with pytest.raises(errors.DataFormatError, match=message) as caught:
        novel_view.make_cameras(config, np.zeros(25, np.float32))
    assert "\n" not in str(caught.value)


def test_a_way_passes_its_faces_smoothly_and_closes(person):
    config = use_config.InterpolateConfig(faces=4, step_s=0.4, fps=25.0)
    w = interpolate.walk(person, config)
    assert len(w) == 40
    np.testing.assert_allclose(w[0], person.encode(person.neutral_code[None])[0], atol=1e-5)
    steps = np.linalg.norm(np.diff(np.concatenate([w, w[:1]]), axis=0), axis=1)
    assert steps.max() < 0.4 * np.linalg.norm(w.max(axis=0) - w.min(axis=0))
    drawn = interpolate.walk(person, dataclasses.replace(config, space="latents"))
    again = interpolate.walk(person, dataclasses.replace(config, space="latents"))
    np.testing.assert_array_equal(drawn, again)
    other = interpolate.walk(person, dataclasses.replace(config, space="latents", first_seed=9))
    assert np.abs(other - drawn).max() > 1e-3


def test_another_persons_codes_keep_neutral_and_range(person):
    theirs = np.stack([CODES[:, 1] * 0.3, CODES[:, 0] * 2.0 + 1.0], axis=1)  # names the other way
    other = dataclasses.replace(person, normalizer=normalization.fit(theirs, NAMES[::-1]))
    moved = other.neutral_code + np.outer([0.0, 1.0], other.code_std)
    found = reenact.carry_over(moved.astype(np.float32), other, person, 100.0)
    expected = person.neutral_code + np.outer([0.0, 1.0], person.code_std)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    held = reenact.carry_over(moved.astype(np.float32), other, person, 0.25)
    assert np.abs(held - person.neutral_code).max() <= 0.2501 * other.code_std.max()


def test_an_avatar_with_other_coefficients_is_refused(person):
    other = dataclasses.replace(person, normalizer=normalization.fit(CODES[:, :1], NAMES[:1]))
    with pytest.raises(errors.DataFormatError, match="eyeBlinkLeft is lacking"):
        reenact.carry_over(CODES[:, :1], other, person, 2.0)


def test_a_source_that_is_no_run_folder_is_told(tmp_path):
    with pytest.raises(errors.RunError, match="expected the run folder of another avatar"):
        reenact._open_source(str(tmp_path))


def test_a_film_has_its_frames_its_sheet_and_pictures_with_alpha(person, tmp_path):
    folder = films_out.claim_folder(tmp_path, "film")
    w, labels = person.encode(CODES[:5]), np.tile(person.frontal_label25, (5, 1))
    with compiled.quickly():
        films_out.write_film(folder, person, w, labels, fps=10, batch_size=4, pictures=True)
        drawn = person.render(w, labels, batch_size=4)
    with av.open(str(folder / "film.mp4")) as container:
        assert len(list(container.decode(video=0))) == 5
    assert (folder / "sheet.png").stat().st_size > 100
    rgba = np.asarray(Image.open(folder / "frames" / "000003.png")).astype(float)
    np.testing.assert_allclose(rgba[..., 3], 255 * drawn.alpha[3], atol=0.51)
    alpha = rgba[..., 3:] / 255
    composed = rgba[..., :3] * alpha + 255 * (1 - alpha)
    opaque = alpha[..., 0] > 0.1
    assert opaque.any()
    assert np.abs(composed - drawn.image[3])[opaque].max() < 4
    assert films_out.claim_folder(tmp_path, "film").name == "film-2"


def test_a_codes_file_is_read_by_name(person, tmp_path):
    codes = CODES[:4].copy()
    codes[1] = np.nan
    path = tmp_path / "codes.json"
    path.write_text(precomputed.to_json(NAMES[::-1], "abcd", codes[:, ::-1]))
    np.testing.assert_allclose(films_out.read_codes(str(path), person), codes[[0, 2, 3]], rtol=1e-6)
    path.write_text(precomputed.to_json(NAMES[:1], "abcd", CODES[:4, :1]))
    with pytest.raises(errors.DataFormatError, match="eyeBlinkLeft is lacking"):
        films_out.read_codes(str(path), person)
