"""The estimator "deep3dface": the real landmarker, a small regressor with random weights."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from ganavatar_jax.core import errors, portable
from ganavatar_jax.faces import (
    deep3d_alignment,
    deep3dface,
    estimation,
    estimator_config,
    estimators,
    measures,
    model_files,
)
from helpers import deep3d

DATA = pathlib.Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "deep3d.safetensors"
    portable.save_params(path, deep3d.variables(deep3d.small_tensors()), {"kind": "deep3dface"})
    return path


@pytest.fixture
def make(weights_path):
    try:
        model_files.find(model_files.FACE_LANDMARKER, allow_download=False)
    except errors.EstimatorError as error:
        pytest.skip(str(error))

    def build(**options):
        return estimators.make_estimator(
            estimator_config.EstimatorConfig(
                name="deep3dface", model_path=str(weights_path), allow_download=False, **options
            )
        )

    return build


@pytest.fixture(scope="module")
def faces():
    names = ("neutral", "open_mouth")
    return [np.asarray(Image.open(DATA / f"{name}.webp").convert("RGB")) for name in names]


def test_faces_get_64_named_coefficients(make, faces):
    estimator = make()
    readings = estimation.estimate_many(estimator, [*faces, np.zeros((64, 64, 3), np.uint8)])
    assert estimator.names == tuple(f"exp{i:02d}" for i in range(64))
    assert readings.found.tolist() == [True, True, False]
    assert np.isfinite(readings.codes[:2]).all()
    assert np.abs(readings.codes[0] - readings.codes[1]).max() > 0
    again = estimation.estimate_many(estimator, faces)
    np.testing.assert_array_equal(again.codes, readings.codes[:2])


def test_measures_are_appended_on_request(make, faces):
    estimator = make(measures=True)
    assert estimator.names[64:] == measures.NAMES
    assert estimator.estimate(faces[0]).code.shape == (64 + len(measures.NAMES),)


def test_an_aligned_face_has_its_landmarks_where_the_template_says(make, faces):
    reading = make().estimate(faces[0])
    points = deep3dface.five_points(reading.landmarks)
    right_of_left = points[1, 0] > points[0, 0] and points[4, 0] > points[3, 0]
    assert right_of_left  # sides are the image's
    assert points[2, 1] > points[:2, 1].max()  # the nose below the eyes
    assert points[3:, 1].min() > points[2, 1]  # the mouth below the nose
    aligned = deep3d_alignment.align(faces[0], points)
    again = make().estimate(aligned)
    y_up = deep3dface.five_points(again.landmarks)
    y_up[:, 1] = 223 - y_up[:, 1]
    scale, shift_x, shift_y = deep3d_alignment.fit_template(y_up)
    np.testing.assert_allclose(scale, 1.0, atol=0.05)
    np.testing.assert_allclose((shift_x, shift_y), 112.0, atol=4.0)


def test_weights_are_needed_and_checked(tmp_path):
    def build(**options):
        estimators.make_estimator(estimator_config.EstimatorConfig(name="deep3dface", **options))

    with pytest.raises(errors.EstimatorError, match="needs model_path; got None"):
        build()
    with pytest.raises(errors.WeightError, match="--kind=deep3d --src=epoch_20.pth"):
        build(model_path="epoch_20.pth")
    other = tmp_path / "generator.safetensors"
    portable.save_params(other, {"params": {}}, {"kind": "generator"})
    with pytest.raises(errors.WeightError, match="expected weights of kind 'deep3dface'"):
        build(model_path=str(other))
