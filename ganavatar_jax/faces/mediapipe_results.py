"""Results of MediaPipe's own Face Landmarker, as people dump them to JSON.

Its answers to a recording are a list of results, an object of results by frame, or one result a
line (`.jsonl`); a result is what Python (`face_blendshapes`) or JavaScript (`faceBlendshapes`)
returns, an object of scores by name, or null. Landmarks and transformation matrices in it are
passed over.

Source: MediaPipe's documentation of FaceLandmarkerResult.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ganavatar_jax.core.arrays import Float

_SHAPES = ("face_blendshapes", "faceBlendshapes")
_OTHERS = (
    *("face_landmarks", "faceLandmarks"),
    *("facial_transformation_matrixes", "facialTransformationMatrixes"),
)
_TIMES = ("timestamp_ms", "timestampMs")
_LARGEST = 1e15  # JSON's integers have no end
_LISTS = ("frames", "results")
_NAMES = ("category_name", "categoryName")


class Results(NamedTuple):
    """Scores of a recording.

    Attributes:
      names: Coefficients, as MediaPipe spells them.
      frames: Name of each frame: its key, or its number.
      rows: Scores of each frame; None where there was no face.
      times_s: When each frame was shown, seconds; None where some do not say.
    """

    names: list[str]
    frames: list[str]
    rows: list[Float[np.ndarray, " e"] | None]
    times_s: list[float] | None


def find(content: Any) -> Iterable[tuple[str, Any]] | None:
    """Finds results by frame in what a JSON file holds.

    Args:
      content: The parsed file.

    Returns:
      Frames and their results; None where it is no dump of results.
    """
    if isinstance(content, dict) and _is_result(content):
        content = [content]
    if isinstance(content, dict):
        inner = [content[key] for key in _LISTS if isinstance(content.get(key), list | dict)]
        content = inner[0] if len(inner) == 1 else content
    if isinstance(content, list):
        return number(content) if any(map(_is_result, content)) else None
    if isinstance(content, dict) and any(map(_is_result, content.values())):
        return content.items()
    return None


def number(results: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Names frames by their numbers.

    Args:
      results: One a frame.

    Yields:
      Six digits, and the result.
    """
    return ((f"{index:06d}", result) for index, result in enumerate(results))


def read(results: Iterable[tuple[str, Any]], *, most: int) -> Results:
    """Takes the scores out of results, one by one.

    Args:
      results: Frames and their results.
      most: Frames that are read.

    Returns:
      The scores; those of every frame under the names of the first one with a face.

    Raises:
      ValueError: a result is none, shows several faces, or has other names than those before it;
        says which frame.
    """
    names: list[str] = []
    frames: list[str] = []
    rows: list[Float[np.ndarray, " e"] | None] = []
    times: list[float] = []
    for frame, result in results:
        if len(frames) == most:
            raise ValueError(f"more than {most} frames; cut the recording")
        try:
            scores = _scores(result)
            names = names or list(scores or ())
            rows.append(_row(scores, names))
            times += _time_s(result)
        except ValueError as error:
            raise ValueError(f"frame {frame}: {error}") from error
        frames.append(frame)
    return Results(names, frames, rows, times if len(times) == len(frames) else None)


def _is_result(value: Any) -> bool:
    """Tells results from lists of numbers, which are codes of ours."""
    if not isinstance(value, dict):
        return False
    if any(key in value for key in (*_SHAPES, *_OTHERS)):
        return True
    return len(value) > 1 and all(isinstance(score, int | float) for score in value.values())


def _scores(result: Any) -> dict[str, Any] | None:
    """Finds the one face's scores by name."""
    if result is None:
        return None
    if not isinstance(result, dict):
        raise ValueError(f"expected a result of MediaPipe, or null; got {result!r:.40}")
    key = next((key for key in _SHAPES if key in result), None)
    if key is None:
        if any(other in result for other in _OTHERS):
            raise ValueError(
                'expected "face_blendshapes"; it has landmarks only. Run the landmarker with '
                "output_face_blendshapes=True"
            )
        return {name: value for name, value in result.items() if name not in _TIMES}
    faces = result[key]
    if faces is None or faces == []:
        return None
    if not isinstance(faces, list) or len(faces) != 1:
        got = f"{len(faces)} faces" if isinstance(faces, list) else f"{faces!r:.40}"
        raise ValueError(f'expected one face in "{key}"; got {got}. Run it with num_faces=1')
    categories = faces[0].get("categories") if isinstance(faces[0], dict) else faces[0]
    if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
        raise ValueError(f'expected a list of categories in "{key}"; got {categories!r:.40}')
    named = [(_name(category), category.get("score")) for category in categories]
    if len(dict(named)) != len(named):
        raise ValueError("a category is there twice")
    return dict(named)


def _name(category: dict[str, Any]) -> str:
    name = next((category[key] for key in _NAMES if key in category), None)
    if not isinstance(name, str) or not name:
        raise ValueError(f'expected a text "category_name"; got {category!r:.60}')
    return name


def _row(scores: dict[str, Any] | None, names: list[str]) -> Float[np.ndarray, " e"] | None:
    if scores is None:
        return None
    if len(scores) != len(names) or not all(name in scores for name in names):
        other = sorted(set(scores) ^ set(names))
        raise ValueError(f"other names than the frames before it ({', '.join(other)[:60]})")
    values = [scores[name] for name in names]
    numbers = [isinstance(v, int | float) and not isinstance(v, bool) for v in values]
    if not all(numbers) or not all(abs(value) < _LARGEST for value in values):  # false for NaN
        raise ValueError(f"expected {len(names)} finite scores; got {values!s:.60}")
    return np.array(values, np.float32)


def _time_s(result: Any) -> list[float]:
    """The frame's time, if it says one."""
    if not isinstance(result, dict):
        return []
    stamps = [result[key] for key in _TIMES if key in result]
    if not all(isinstance(s, int | float) and abs(s) < _LARGEST for s in stamps[:1]):
        raise ValueError(f"expected milliseconds in {_TIMES[0]}; got {stamps[0]!r:.40}")
    return [stamp / 1000.0 for stamp in stamps[:1]]
