"""The real face networks on four rendered faces whose ARKit weights are known."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.core import errors
from ganavatar_jax.faces import (
    coefficients,
    estimation,
    estimator_config,
    estimators,
    measures,
    model_files,
)

DATA = pathlib.Path(__file__).parent / "data"
FACES = ("open_mouth", "wink_left", "neutral", "smile")


@pytest.fixture(scope="module")
def model_path():
    try:
        return model_files.find(model_files.FACE_LANDMARKER, allow_download=False)
    except errors.EstimatorError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def make(model_path):
    def build(**options):
        plain = {"calibration": "none", "flip_average": False}
        return estimators.make_estimator(
            estimator_config.EstimatorConfig(model_path=str(model_path), **(plain | options))
        )

    return build


@pytest.fixture(scope="module")
def estimator(make):
    return make(measures=True)


@pytest.fixture(scope="module")
def images():
    return {name: np.asarray(Image.open(DATA / f"{name}.webp").convert("RGB")) for name in FACES}


def _resized(image_u8, size_px, resample=Image.Resampling.BOX):
    return np.asarray(Image.fromarray(image_u8).resize((size_px, size_px), resample))


def _values(estimator, image_u8, *names):
    reading = estimator.estimate(image_u8)
    assert reading is not None
    return coefficients.select(reading.code, estimator.names, names)


@pytest.mark.parametrize("size_px", [48, 64, 128, 300])
def test_faces_of_every_size_are_found_and_codes_are_finite(estimator, images, size_px):
    readings = estimation.estimate_many(
        estimator, [_resized(image, size_px) for image in images.values()]
    )
    assert readings.found.all()
    assert readings.codes.shape == (4, 52 + len(measures.NAMES))
    assert np.isfinite(readings.codes).all()
    blendshapes = readings.codes[:, :52]
    assert (blendshapes >= 0).all()
    assert (blendshapes <= 1).all()
    assert readings.confidence.min() > 0.9


@pytest.mark.parametrize("size_px", [64, 128])
def test_the_open_mouth_is_the_most_open(estimator, images, size_px):
    jaws, gaps = np.array(
        [
            _values(estimator, _resized(image, size_px), "jawOpen", "mouthGap")
            for image in images.values()
        ]
    ).T
    assert jaws[0] > jaws[1:].max() + 0.4
    assert gaps[0] > gaps[1:].max() + 0.2


@pytest.mark.parametrize("size_px", [64, 128])
def test_the_closed_eye_is_the_persons_left_and_changes_side_in_the_mirror(
    estimator, images, size_px
):
    image = _resized(images["wink_left"], size_px)
    left, right = _values(estimator, image, "eyeBlinkLeft", "eyeBlinkRight")
    assert left > right + 0.4
    mirrored = np.ascontiguousarray(image[:, ::-1])
    left, right = _values(estimator, mirrored, "eyeBlinkLeft", "eyeBlinkRight")
    assert right > left + 0.1


def test_the_smile_is_on_the_persons_left(estimator, images):
    left, right = _values(estimator, images["smile"], "mouthSmileLeft", "mouthSmileRight")
    neutral = _values(estimator, images["neutral"], "mouthSmileLeft")
    assert left > right + 0.2
    assert left > neutral + 0.2


def test_averaging_with_the_mirror_image_makes_codes_exactly_mirrored(make, images):
    averaging = make(flip_average=True, measures=True)
    image = images["wink_left"]
    code = averaging.estimate(image).code
    mirrored = averaging.estimate(np.ascontiguousarray(image[:, ::-1])).code
    np.testing.assert_allclose(mirrored, coefficients.mirror(code, averaging.names), atol=1e-6)


@pytest.mark.parametrize("step", [(6, 0), (-9, 4), (3, -7)])
def test_shifting_the_image_shifts_landmarks_and_keeps_the_code(estimator, images, step):
    base = np.pad(images["open_mouth"], ((16, 16), (16, 16), (0, 0)), mode="edge")
    expected = estimator.estimate(base)
    moved = estimator.estimate(np.roll(base, step[::-1], axis=(0, 1)))
    shift = moved.landmarks[:, :2] - expected.landmarks[:, :2]
    np.testing.assert_allclose(shift.mean(axis=0), step, atol=0.4)
    assert np.abs(shift - step).max() < 2.5  # pixels of a face 60 pixels wide
    assert np.abs(moved.code - expected.code).mean() < 0.02
    jaw = coefficients.indices(estimator.names, ["jawOpen"])
    np.testing.assert_allclose(moved.code[jaw], expected.code[jaw], atol=0.1)


def test_a_rolled_head_is_read_upright(estimator, images):
    picture = Image.fromarray(images["open_mouth"])
    rolled = picture.rotate(25, Image.Resampling.BICUBIC, fillcolor=(255, 255, 255))
    upright = _values(estimator, images["open_mouth"], "jawOpen", "mouthGap")
    np.testing.assert_allclose(
        _values(estimator, np.asarray(rolled), "jawOpen", "mouthGap"), upright, atol=0.15
    )


def test_a_small_face_in_a_large_image_is_found_by_tiles(make, images):
    canvas = np.full((1000, 1000, 3), 255, np.uint8)
    canvas[700:828, 300:428] = images["open_mouth"]
    assert make(tile_levels=0).estimate(canvas) is None
    reading = make(tile_levels=2).estimate(canvas)
    expected = make().estimate(images["open_mouth"])
    offset = reading.landmarks[:, :2].mean(axis=0) - expected.landmarks[:, :2].mean(axis=0)
    np.testing.assert_allclose(offset, (300, 700), atol=1.0)


@pytest.mark.parametrize("size_px", [64, 256])
def test_images_without_a_face_are_not_readable(estimator, size_px):
    noise = np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    white = np.full_like(noise, 255)
    readings = estimation.estimate_many(estimator, [white, noise, white[: size_px // 3]])
    assert readings.found.tolist() == [False] * 3


def test_an_assumed_face_is_read_where_none_is_found_and_changes_nothing_elsewhere(make, images):
    assuming = make(assume_face=True, min_confidence=0.0, tile_levels=0)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    reading = assuming.estimate(noise)
    assert np.isfinite(reading.code).all()
    assert reading.confidence < 0.5
    assert make(assume_face=True).estimate(noise) is None  # still unsure of it
    found = make().estimate(images["smile"])
    np.testing.assert_array_equal(assuming.estimate(images["smile"]).code, found.code)


def test_the_threshold_decides_what_is_readable(make, images):
    assert make(min_confidence=1.0).estimate(images["neutral"]) is None


def test_landmarks_stand_on_the_face_in_pixels_of_the_given_image(estimator, images):
    for size_px in (64, 128):
        landmarks = estimator.estimate(_resized(images["neutral"], size_px)).landmarks
        low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
        assert (low > 0.2 * size_px).all()
        assert (high < 0.95 * size_px).all()
        assert landmarks[33, 0] < landmarks[1, 0] < landmarks[263, 0]  # right eye, nose, left eye
        assert landmarks[10, 1] < landmarks[1, 1] < landmarks[152, 1]  # forehead, nose, chin


def test_a_wrong_model_file_is_refused(tmp_path):
    wrong = tmp_path / "face_landmarker.task"
    wrong.write_bytes(b"PK not the model")
    config = estimator_config.EstimatorConfig(model_path=str(wrong))
    with pytest.raises(errors.EstimatorError, match="expected face_landmarker.task with sha256"):
        estimators.make_estimator(config)


@pytest.mark.parametrize("size_px", [64, 128])
def test_the_calibrated_default_gives_arkit_weights_of_the_right_face(make, images, size_px):
    default = estimator_config.EstimatorConfig()
    calibrated = make(calibration=default.calibration, flip_average=default.flip_average)
    assert set(calibrated.names) <= set(coefficients.ARKIT_NAMES)
    names = ("jawOpen", "eyeBlinkLeft", "mouthSmileLeft")
    values = np.array(
        [_values(calibrated, _resized(image, size_px), *names) for image in images.values()]
    )
    jaw, lid, smile = values.T
    assert jaw[0] > jaw[1:].max() + 0.4
    assert lid[0] > lid[2:].max() + 0.2  # the open mouth comes with closed eyes
    assert lid[1] > lid[2:].max() + 0.05  # people mostly close both: one eye is read weakly
    assert smile[[1, 3]].min() > smile[[0, 2]].max() + 0.1  # the winking face smiles a little


def test_measures_follow_the_calibrated_coefficients(make, images):
    plain = make(measures=True).estimate(images["smile"]).code
    both = make(measures=True, calibration="synthetic-people")
    assert both.names[-len(measures.NAMES) :] == measures.NAMES
    code = both.estimate(images["smile"]).code
    np.testing.assert_array_equal(code[-len(measures.NAMES) :], plain[-len(measures.NAMES) :])
    assert len(code) == len(both.names)
