"""Expression codes that were computed elsewhere, looked up by frame name.

Two layouts: JSON `{"names": [...], "codes": {frame: [...]}}` (a capture's expressions.json; null
instead of a list is a frame without a code, a number "fps" says how fast the frames follow each
other, a list "times" when each of them was shown, seconds) and NPZ with arrays `names` [e],
`frames` [f] and `codes` [f e]. Results of MediaPipe's own landmarker are understood, too (see
`faces.mediapipe_results`), and coefficients in all their spellings.
"""

import json
import logging
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ganavatar_jax.core import coefficient_names, errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.core.readers import text_files
from ganavatar_jax.faces import estimation, mediapipe_results

_LOG = logging.getLogger(__name__)
_MOST_FRAMES = 10**6
_HIGHEST_FPS, _LATEST_S = 1e6, 1e12  # JSON's integers have no end
# What NumPy and zipfile raise for archives that are damaged, encrypted or claim too much.
_DAMAGE = (
    *(OSError, KeyError, ValueError, TypeError, EOFError, RuntimeError, MemoryError),
    *(OverflowError, zipfile.BadZipFile, zlib.error),
)

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
    read = _READERS.get(path.suffix.lower(), _read_json)
    names, frames, rows, fps, times_s = read(path)
    if all(isinstance(name, str) for name in names):
        names = list(coefficient_names.canonical(names))
    if len(frames) > _MOST_FRAMES:
        raise errors.DataFormatError(
            f"{path}: holds more than {_MOST_FRAMES} frames. Cut the recording."
        )
    for key, texts in (("names", names), ("frames", frames)):
        if not all(isinstance(text, str) for text in texts) or len(set(texts)) != len(texts):
            raise errors.DataFormatError(
                f'{path}: "{key}" must be different texts; got {texts!s:.60}. Correct them.'
            )
    codes = np.full((len(frames), len(names)), np.nan, np.float32)
    for index, (frame, row) in enumerate(zip(frames, rows, strict=True)):
        if row is not None:
            codes[index] = _checked_row(row, len(names), place=f"{path}: frame {frame}")
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
    except (TypeError, ValueError, OverflowError):  # words, or unequal lists: told below
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
        content = text_files.parse_json(text_files.read_bytes(path))
        results = mediapipe_results.find(content)
        if results is not None:
            return _from_results(mediapipe_results.read(results, most=_MOST_FRAMES), path)
    except (OSError, ValueError) as error:
        raise errors.DataFormatError(
            f"{path}: expected JSON of codes; got {error}. Write the file anew."
        ) from error
    for key, kind in (("names", list), ("codes", dict)):
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise errors.DataFormatError(
                f'{path}: expected {{"names": [...], "codes": {{frame: [...]}}}}; key "{key}" is '
                f"missing or not a {kind.__name__}. Write the file anew."
            )
    fps = content.get("fps")
    is_number = isinstance(fps, int | float) and not isinstance(fps, bool)
    if fps is not None and not (is_number and 0 < fps < _HIGHEST_FPS):
        raise errors.DataFormatError(
            f'{path}: "fps" must be a number above 0; got {fps!r:.40}. Correct it or leave it out.'
        )
    rows = content["codes"]
    times_s = _checked_times(content.get("times"), len(rows), path)
    return content["names"], list(rows), list(rows.values()), fps, times_s


def _read_json_lines(path: pathlib.Path) -> _Table:
    """Reads one result of MediaPipe's landmarker a line, whatever their number."""
    try:
        text = text_files.read_text(path)
        lines = text_files.parse_json_lines(
            text, tell_cut=lambda: _LOG.warning("%s: the last line is cut off; left out.", path)
        )
        found = mediapipe_results.read(mediapipe_results.number(lines), most=_MOST_FRAMES)
    except (OSError, ValueError) as error:
        raise errors.DataFormatError(
            f"{path}: expected one result of MediaPipe's landmarker a line; got {error}. Write the "
            "file anew."
        ) from error
    return _from_results(found, path)


def _from_results(found: mediapipe_results.Results, path: pathlib.Path) -> _Table:
    times_s = _checked_times(found.times_s, len(found.frames), path)
    return found.names, found.frames, list(found.rows), None, times_s


def _checked_times(times_s: Any, count: int, path: pathlib.Path) -> list[float] | None:
    """Takes times that rise, one for each frame."""
    if times_s is None:
        return None
    numbers = isinstance(times_s, list) and all(
        isinstance(t, int | float) and not isinstance(t, bool) and abs(t) < _LATEST_S
        for t in times_s
    )
    right = numbers and len(times_s) == count
    if not right or not (np.diff(times_s) > 0).all():
        raise errors.DataFormatError(
            f'{path}: "times" must hold seconds that rise, one for each of {count} frames. Correct '
            "them or leave them out."
        )
    return times_s


def _read_npz(path: pathlib.Path) -> _Table:
    """Reads codes by rows, whose frames are named beside them."""
    try:
        with path.open("rb") as file:
            with zipfile.ZipFile(file) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > text_files.MAX_BYTES:
                raise ValueError(f"{size} bytes; at most {text_files.MAX_BYTES} are read")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                names, frames, codes = arrays["names"], arrays["frames"], arrays["codes"]
        if (names.ndim, frames.ndim, codes.ndim) != (1, 1, 2):
            raise ValueError(f"shapes {names.shape}, {frames.shape} and {codes.shape}")
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise errors.DataFormatError(
            f"{path}: expected an NPZ with arrays names, frames and codes; got {reason:.200}. "
            "Write the file anew."
        ) from error
    if len(frames) != len(codes):
        raise errors.DataFormatError(
            f"{path}: expected one row of codes per frame; got {len(frames)} frames and "
            f"{len(codes)} rows. Write the file anew."
        )
    return names.tolist(), frames.tolist(), list(codes), None, None


_READERS: dict[str, Callable[[pathlib.Path], _Table]] = {
    ".npz": _read_npz,
    ".jsonl": _read_json_lines,
}
