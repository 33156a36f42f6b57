"""Calibrations: the map itself, the file format, and what the shipped one promises."""

import json

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.faces import calibration, coefficients, measures

INPUTS = ("jawOpen", "eyeBlinkLeft", "mouthGap")


@pytest.fixture
def small():
    matrix = np.array([[1.0, 0.5], [0.0, 2.0], [-0.25, 0.0]])
    return calibration.Calibration(
        INPUTS, ("eyeBlinkLeft", "jawOpen"), matrix, np.array([0.1, -0.2]), {"faces": [3]}
    )


@pytest.fixture(scope="module")
def shipped():
    return calibration.load("synthetic-people")


def test_inputs_are_found_by_name_and_the_map_is_affine(small):
    codes = np.array([[9.0, 0.4, 1.0, 0.2], [9.0, 0.0, 0.0, 0.0]], np.float32)
    names = ("other", "mouthGap", "jawOpen", "eyeBlinkLeft")
    expected = [[1.0 - 0.1 + 0.1, 0.5 + 0.4 - 0.2], [0.1, -0.2]]
    np.testing.assert_allclose(small.apply(codes, names), expected, atol=1e-6)
    np.testing.assert_allclose(small.apply(codes[0], names), expected[0], atol=1e-6)
    assert small.apply(codes, names).dtype == np.float32


def test_a_reading_that_lacks_an_input_is_refused(small):
    with pytest.raises(ValueError, match="expected coefficients mouthGap"):
        small.apply(np.zeros((1, 2), np.float32), ("jawOpen", "eyeBlinkLeft"))


def test_a_saved_calibration_is_loaded_to_the_digits_kept(small, tmp_path):
    path = tmp_path / "calibration.json"
    calibration.save(path, small)
    loaded = calibration.load(path)
    assert (loaded.inputs, loaded.names) == (small.inputs, small.names)
    assert loaded.provenance == {"faces": [3]}
    np.testing.assert_allclose(loaded.matrix, small.matrix, atol=1e-5)
    np.testing.assert_allclose(loaded.offset, small.offset, atol=1e-5)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(errors.EstimatorError, match=r"sintetic.*none, synthetic-people or a file"):
        calibration.load("sintetic-people")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "other/1", "format 'other/1'"),
        ("inputs", ["jawOpen"], r"shape \(2, 4\) for 1 inputs"),
        ("offset_and_weights", {"jawOpen": [0.0, 1.0, float("nan"), 0.0]}, "finite weight"),
        ("offset_and_weights", {"jawOpen": [0.0], "eyeBlinkLeft": [0.0, 1.0]}, "got "),
        ("provenance", 3, "got "),
    ],
)
def test_a_file_that_breaks_the_format_is_refused(small, tmp_path, key, value, message):
    path = tmp_path / "calibration.json"
    calibration.save(path, small)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(errors.DataFormatError, match=rf"calibration.json: expected .*{message}"):
        calibration.load(path)


@pytest.mark.parametrize("text", ["", "[1]", '{"format": 1'])
def test_a_file_that_is_no_calibration_is_refused(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(errors.DataFormatError, match="Fit it anew"):
        calibration.load(path)


def test_the_shipped_one_takes_what_the_estimator_reads_and_gives_arkit_weights(shipped):
    assert set(shipped.inputs) <= {*coefficients.MEDIAPIPE_NAMES, *measures.NAMES}
    assert set(shipped.names) <= set(coefficients.ARKIT_NAMES)
    assert {"jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft"} <= set(shipped.names)
    assert shipped.provenance["license"] == "CC0-1.0"


def test_the_shipped_one_treats_both_sides_alike(shipped):
    codes = np.random.default_rng(0).uniform(size=(5, len(shipped.inputs))).astype(np.float32)
    mirrored = coefficients.mirror(codes, shipped.inputs)
    np.testing.assert_allclose(
        shipped.apply(mirrored, shipped.inputs),
        coefficients.mirror(shipped.apply(codes, shipped.inputs), shipped.names),
        atol=1e-3,
    )
