"""Codes from files: both layouts, and errors that name the file and the frame."""

import json
import pathlib

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.faces import coefficients, precomputed

DATA = pathlib.Path(__file__).parent / "data"
IMAGE = np.zeros((4, 4, 3), np.uint8)


def test_a_captures_expressions_are_looked_up_by_frame():
    estimator = precomputed.load(DATA / "expressions.json")
    assert estimator.names == coefficients.ARKIT_NAMES
    reading = estimator.estimate(IMAGE, frame="open_mouth.webp")
    assert reading is not None
    assert reading.code[coefficients.ARKIT_NAMES.index("jawOpen")] > 0.9
    assert reading.landmarks is None
    assert estimator.estimate(IMAGE, frame="unknown.webp") is None


def test_a_reading_is_a_copy_of_the_table():
    estimator = precomputed.load(DATA / "expressions.json")
    estimator.estimate(IMAGE, frame="neutral.webp").code[:] = 7
    assert estimator.estimate(IMAGE, frame="neutral.webp").code.max() < 1


def test_npz_files_say_the_same(tmp_path):
    codes = np.random.default_rng(0).uniform(size=(3, 2))
    path = tmp_path / "codes.npz"
    np.savez(path, names=["a", "b"], frames=["x", "y", "z"], codes=codes)
    estimator = precomputed.load(path)
    assert estimator.names == ("a", "b")
    np.testing.assert_array_equal(
        estimator.estimate(IMAGE, frame="y").code, codes[1].astype(np.float32)
    )


def test_codes_are_written_as_they_are_read(tmp_path):
    codes = np.random.default_rng(0).uniform(size=(3, 2)).astype(np.float32)
    codes[1] = np.nan
    path = tmp_path / "codes.json"
    path.write_text(precomputed.to_json(("a", "b"), ("x", "y", "z"), codes, fps=29.97))
    estimator = precomputed.load(path)
    assert (estimator.names, estimator.frames) == (("a", "b"), ("x", "y", "z"))
    assert estimator.fps == 29.97
    np.testing.assert_array_equal(estimator.codes, codes)
    assert estimator.estimate(IMAGE, frame="y") is None
    np.testing.assert_array_equal(estimator.estimate(IMAGE, frame="z").code, codes[2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ("[]", 'key "names" is missing'),
        (json.dumps({"names": ["a"], "codes": [1]}), 'key "codes" is missing or not a dict'),
        (json.dumps({"names": ["a"], "codes": {"f1": [1, 2]}}), "frame f1: expected 1 finite"),
        (json.dumps({"names": ["a"], "codes": {"f1": [float("nan")]}}), "frame f1: expected 1"),
        (json.dumps({"names": ["a"], "codes": {"f1": ["x"]}}), "frame f1: expected 1"),
        (json.dumps({"names": ["a"], "codes": {"f1": 0.5}}), "frame f1: expected 1"),
        (json.dumps({"names": [["a"]], "codes": {}}), '"names" must be different texts'),
        (json.dumps({"names": ["a", "a"], "codes": {}}), '"names" must be different texts'),
        (json.dumps({"names": ["a"], "codes": {}, "fps": 0}), '"fps" must be a number above 0'),
        (json.dumps({"names": ["a"], "codes": {}, "fps": "25"}), '"fps" must be a number above 0'),
    ],
)
def test_broken_json_names_file_and_fault(tmp_path, content, message):
    path = tmp_path / "codes.json"
    path.write_text(content)
    with pytest.raises(errors.DataFormatError, match=rf"codes\.json: .*{message}"):
        precomputed.load(path)


def test_broken_npz_names_file_and_fault(tmp_path):
    path = tmp_path / "codes.npz"
    np.savez(path, names=["a"], codes=np.zeros((1, 1)))
    with pytest.raises(errors.DataFormatError, match="arrays names, frames and codes"):
        precomputed.load(path)
    np.savez(path, names=["a"], frames=[0, 1], codes=np.zeros((2, 1)))
    with pytest.raises(errors.DataFormatError, match='"frames" must be different texts; got .0, 1'):
        precomputed.load(path)
    np.savez(path, names=["a", "a"], frames=["x"], codes=np.zeros((1, 2)))
    with pytest.raises(errors.DataFormatError, match='"names" must be different texts'):
        precomputed.load(path)
    np.savez(path, names=["a"], frames=["x", "y"], codes=np.zeros((1, 1)))
    with pytest.raises(errors.DataFormatError, match="2 frames and 1 rows"):
        precomputed.load(path)
    path.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(errors.DataFormatError, match="expected an NPZ"):
        precomputed.load(path)


def test_missing_files_and_missing_frame_names_are_explained(tmp_path):
    with pytest.raises(errors.EstimatorError, match="there is none. Set codes_path"):
        precomputed.load(tmp_path / "absent.json")
    with pytest.raises(errors.EstimatorError, match="by frame name"):
        precomputed.load(DATA / "expressions.json").estimate(IMAGE)
