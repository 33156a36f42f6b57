"""Dumps of MediaPipe's own landmarker give the scores that it gave, in every shape they come in."""

import json

import numpy as np
import pytest

from ganavatar_jax.core import errors
from ganavatar_jax.faces import coefficients, precomputed

NAMES = coefficients.MEDIAPIPE_NAMES
SCORES = np.random.default_rng(0).uniform(size=(4, len(NAMES))).astype(np.float32)


def python_result(scores, *, faces=1):
    categories = [
        {"index": i, "score": float(s), "display_name": "", "category_name": name}
        for i, (name, s) in enumerate(zip(NAMES, scores, strict=True))
    ]
    points = [{"x": 0.5, "y": 0.5, "z": 0.0, "visibility": None, "presence": None}]
    return {
        "face_landmarks": [points] * faces,
        "face_blendshapes": [categories] * faces,
        "facial_transformation_matrixes": [np.eye(4).tolist()] * faces,
    }


def script_result(scores):
    categories = [
        {"index": i, "score": float(s), "categoryName": name, "displayName": ""}
        for i, (name, s) in enumerate(zip(NAMES, scores, strict=True))
    ]
    return {"faceLandmarks": [], "faceBlendshapes": [{"categories": categories, "headIndex": -1}]}


def scores_alone(scores):
    return dict(zip(NAMES, map(float, scores), strict=True))


def load(tmp_path, content, name="take.json"):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / name).write_text(text)
    return precomputed.load(tmp_path / name)


@pytest.mark.parametrize("result", [python_result, script_result, scores_alone])
def test_every_dump_gives_its_scores(tmp_path, result):
    results = [result(scores) for scores in SCORES]
    lines = "\n".join(map(json.dumps, results))
    dumps = [
        load(tmp_path, results),
        load(tmp_path, {"frames": results}),
        load(tmp_path, lines, "take.jsonl"),
        load(tmp_path, {f"{i:06d}": found for i, found in enumerate(results)}),
    ]
    for found in dumps:
        assert found.names == NAMES
        assert found.frames == ("000000", "000001", "000002", "000003")
        np.testing.assert_array_equal(found.codes, SCORES)
    np.testing.assert_array_equal(load(tmp_path, results[0]).codes, SCORES[:1])


def test_frames_without_a_face_have_no_code_and_stamps_become_times(tmp_path):
    none = python_result(SCORES[0], faces=0)
    results = [python_result(SCORES[0]), none, None, python_result(SCORES[3])]
    np.testing.assert_array_equal(
        np.isnan(load(tmp_path, results).codes).all(axis=1), [False, True, True, False]
    )
    stamped = [
        {"timestamp_ms": stamp} | python_result(scores)
        for stamp, scores in zip((40, 80, 140, 160), SCORES, strict=True)
    ]
    assert load(tmp_path, stamped).times_s == (0.04, 0.08, 0.14, 0.16)


def test_a_last_line_that_is_cut_off_is_told_and_left_out(tmp_path, caplog):
    lines = "\n".join(json.dumps(python_result(scores)) for scores in SCORES)
    found = load(tmp_path, lines[:-50], "take.jsonl")
    np.testing.assert_array_equal(found.codes, SCORES[:3])
    assert "take.jsonl: the last line is cut off" in caplog.text


def without(key):
    return {k: v for k, v in python_result(SCORES[0]).items() if k != key}


FAULTS = {
    "two faces": ([python_result(SCORES[0], faces=2)], "frame 000000: expected one face in"),
    "no scores": ([without("face_blendshapes")], "output_face_blendshapes=True"),
    "a word": ([{"face_blendshapes": [[{"category_name": "a", "score": "b"}]]}], "finite scores"),
    "no number": ([{"face_blendshapes": [[{"category_name": "a"}]]}], "1 finite scores"),
    "too large": ([{"a": 10**400, "b": 1}], "2 finite scores"),
    "no name": ([{"face_blendshapes": [[{"score": 1.0}]]}], 'a text "category_name"'),
    "no list": ([{"face_blendshapes": [[1.0]]}], "expected a list of categories"),
    "a number": ([python_result(SCORES[0]), 7], "frame 000001: expected a result of MediaPipe"),
    "other names": ([scores_alone(SCORES[0]), {"a": 1.0, "b": 1.0}], "other names than the frames"),
    "twice": ([{"face_blendshapes": [[{"category_name": "a", "score": 1}] * 2]}], "there twice"),
    "stamp": ([{"timestamp_ms": "now"} | python_result(SCORES[0])], "expected milliseconds"),
}


@pytest.mark.attack
@pytest.mark.parametrize("case", FAULTS)
def test_what_is_not_understood_names_file_and_frame(tmp_path, case):
    content, message = FAULTS[case]
    with pytest.raises(errors.DataFormatError, match=rf"take\.json: .*({message})") as caught:
        load(tmp_path, content)
    assert "\n" not in str(caught.value)
