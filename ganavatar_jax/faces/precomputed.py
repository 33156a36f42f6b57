"""Expression codes that were computed elsewhere, looked up by frame name.

Two layouts: JSON `{"names": [...], "codes": {frame: [...]}}` (a capture's expressions.json; null
instead of a list is a frame without a code, a number "fps" says how fast the frames follow each
other, a list "times" when each of them was shown, seconds) and NPZ with arrays `names` [e],
`frames` [f] and `codes` [f e].
"""

import json
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.faces import estimation

# names, frames, rows, fps, times_s
_Table = tuple[list[Any], list[Any], list[Any], float | None, list[float] | None]


class PrecomputedEstimator:
    """An `estimation.Estimator` that looks codes up; frames it does not know are unreadable.

    Attributes:
      names: Name of each coefficient.
      frames: Name of each frame, in the order of the file.
      codes: One row per frame; NaN where it has none.
      fps: Frames a second; None where the file does not say.
      times_s: When each frame was shown, seconds; None where the file does not say.
    """

    def __init__(
        self,
        names: Sequence[str],
        frames: Sequence[str],
        codes: Float[np.ndarray, "f e"],
        *,
        fps: float | None = None,
        times_s: Sequence[float] | None = None,
    ) -> None:
        """Keeps the table.

        Args:
          names: Name of each coefficient.
          frames: Name of each frame.
          codes: One row per frame; NaN where it has none.
          fps: Frames a second, if known.
          times_s: When each frame was shown, seconds, if known.
        """
        self.names, self.frames = tuple(names), tuple(frames)
        self.codes, self.fps = codes, fps
        self.times_s = None if times_s is None else tuple(times_s)
        self._rows = dict(zip(frames, codes, strict=True))

    def estimate(
        self, image_u8: UInt8[np.ndarray, "h w 3"], *, frame: str | None = None
    ) -> estimation.Reading | None:
        """Looks one frame up.

        Args:
          image_u8: Not looked at.
          frame: Name of the frame, as in the file.

        Returns:
          The stored code with confidence 1, or None when the frame has none.

        Raises:
          EstimatorError: no frame name was given.
        """
        del image_u8
        if frame is None:
            raise errors.EstimatorError(
                'estimator "precomputed" looks codes up by frame name; got an image without one. '
                'Use estimator "mediapipe" for images that are not in the codes file.'
            )
        code = self._rows.get(frame)
        if code is None or np.isnan(code).any():
            return None
        return estimation.Reading(code.copy(), 1.0, None)


def load(path: str | os.PathLike[str]) -> PrecomputedEstimator:
    """Reads a codes file, JSON or NPZ by its suffix.

    Args:
      path: The file.

    Returns:
      The estimator that looks codes up in it.

    Raises:
      EstimatorError: the file does not exist.
      DataFormatError: the file breaks its layout; names the file and the frame or key.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise errors.EstimatorError(
            f"{path}: expected a codes file (.json or .npz); there is none. Set codes_path."
        )
    read = _read_npz if path.suffix == ".npz" else _read_json
    names, frames, rows, fps, times_s = read(path)
    for key, texts in (("names", names), ("frames", frames)):
        if not all(isinstance(text, str) for text in texts) or len(set(texts)) != len(texts):
            raise errors.DataFormatError(
                f'{path}: "{key}" must be different texts; got {texts!s:.60}. Correct them.'
            )
    unread = np.full(len(names), np.nan, np.float32)
    checked = [
        unread if row is None else _checked_row(row, len(names), place=f"{path}: frame {frame}")
        for frame, row in zip(frames, rows, strict=True)
    ]
    codes = np.asarray(checked, np.float32).reshape(len(frames), len(names))
    return PrecomputedEstimator(names, frames, codes, fps=fps, times_s=times_s)


def to_json(
    names: Sequence[str],
    frames: Sequence[str],
    codes: Float[np.ndarray, "f e"],
    *,
    fps: float | None = None,
    times_s: Float[np.ndarray, " f"] | None = None,
) -> str:
    """Writes codes in the JSON layout that `load` reads.

    Args:
      names: Name of each coefficient.
      frames: Name of each frame.
      codes: One row per frame; NaN where it has none.
      fps: Frames a second, if known.
      times_s: When each frame was shown, seconds; for frames that follow no constant rate.

    Returns:
      The file's content.
    """
    rows = {
        frame: None if np.isnan(code).any() else code.astype(float).tolist()
        for frame, code in zip(frames, codes, strict=True)
    }
    rate = {} if fps is None else {"fps": fps}
    times = {} if times_s is None else {"times": np.round(times_s, 6).tolist()}
    return json.dumps({"names": list(names), **rate, **times, "codes": rows})


def _checked_row(row: Any, width: int, *, place: str) -> Float[np.ndarray, " e"]:
    try:
        values = np.asarray(row, np.float32)
    except (TypeError, ValueError):  # words, or lists of unequal length: told below
        values = np.empty(0, np.float32)
    if values.shape != (width,) or not np.isfinite(values).all():
        raise errors.DataFormatError(
            f"{place}: expected {width} finite numbers, one per name; got {row!s:.60}. "
            "Write the codes anew or drop the frame."
        )
    return values


def _read_json(path: pathlib.Path) -> _Table:
    """Reads codes by frame name; `fps` is there if they are a recording."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise errors.DataFormatError(
            f"{path}: expected JSON; got {error}. Write the file anew."
        ) from error
    for key, kind in (("names", list), ("codes", dict)):
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise errors.DataFormatError(
                f'{path}: expected {{"names": [...], "codes": {{frame: [...]}}}}; key "{key}" is '
                f"missing or not a {kind.__name__}. Write the file anew."
            )
    fps = content.get("fps")
    is_number = isinstance(fps, int | float) and not isinstance(fps, bool)
    if fps is not None and not (is_number and 0 < fps < np.inf):
        raise errors.DataFormatError(
            f'{path}: "fps" must be a number above 0; got {fps!r:.40}. Correct it or leave it out.'
        )
    rows = content["codes"]
    times_s = _checked_times(content.get("times"), len(rows), path)
    return content["names"], list(rows), list(rows.values()), fps, times_s


def _checked_times(times_s: Any, count: int, path: pathlib.Path) -> list[float] | None:
    """Takes times that rise, one for each frame."""
    if times_s is None:
        return None
    numbers = isinstance(times_s, list) and all(
        isinstance(t, int | float) and not isinstance(t, bool) for t in times_s
    )
    right = numbers and len(times_s) == count and np.isfinite(times_s).all()
    if not right or not (np.diff(times_s) > 0).all():
        raise errors.DataFormatError(
            f'{path}: "times" must hold seconds that rise, one for each of {count} frames. Correct '
            "them or leave them out."
        )
    return times_s


def _read_npz(path: pathlib.Path) -> _Table:
    """Reads codes by rows, whose frames are named beside them."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names, frames, codes = arrays["names"], arrays["frames"], arrays["codes"]
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise errors.DataFormatError(
            f"{path}: expected an NPZ with arrays names, frames and codes; got {error}. "
            "Write the file anew."
        ) from error
    if len(frames) != len(codes):
        raise errors.DataFormatError(
            f"{path}: expected one row of codes per frame; got {len(frames)} frames and "
            f"{len(codes)} rows. Write the file anew."
        )
    return names.tolist(), frames.tolist(), list(codes), None, None
