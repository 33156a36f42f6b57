"""Recordings of the Live Link Face app: ARKit weights by timecode, in a CSV file.

One row a frame, below a header: `Timecode`, `BlendShapeCount`, the 52 ARKit weights with a capital
first letter, and angles of head and eyes, which are no coefficients and are passed over. A
timecode is HH:MM:SS:FF.fff: the frame within the second and its thousandths. Frames in which the
phone saw no face have a count of 0 and nothing behind it.

Source: files of the app, as its readers describe them.
"""

import csv
import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.faces import coefficients

_TIME = "Timecode"
_COUNT = "BlendShapeCount"
_TIMECODE = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})[:;](\d{1,3}(?:\.\d+)?)")
_RATES = (24, 25, 30, 48, 50, 60, 100, 120, 240)
_USUAL_RATE = 60  # What the app records with, unless set otherwise.
_DAY_S = 24 * 3600
_LARGEST_STEP_BACK_S = 1.0


class Recording(NamedTuple):
    """What a file holds.

    Attributes:
      names: Coefficients.
      times_s: When each frame was taken, seconds after the first.
      codes: Weights; NaN where no face was seen.
      fps: Frames a second.
    """

    names: tuple[str, ...]
    times_s: Float[np.ndarray, " f"]
    codes: Float[np.ndarray, "f e"]
    fps: float


def load(path: str | os.PathLike[str]) -> Recording:
    """Reads a recording.

    Args:
      path: The CSV file.

    Returns:
      The recording.

    Raises:
      DataFormatError: the file breaks its layout; names the line.
    """
    path = pathlib.Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, ValueError, csv.Error) as error:
        raise errors.DataFormatError(
            f"{path}: cannot be read as a CSV file ({error}). Export the recording again."
        ) from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    columns = {cell[:1].lower() + cell[1:]: place for place, cell in enumerate(header)}
    names = coefficients.shared(coefficients.ARKIT_NAMES, tuple(columns))
    if _TIME not in header or not names:
        raise errors.DataFormatError(
            f"{path}: expected a header {_TIME},{_COUNT},EyeBlinkLeft,... as Live Link Face writes "
            f"it; got {','.join(header)[:60]!r}. Export the recording again."
        )
    if len(rows) < 2:
        raise errors.DataFormatError(f"{path}: the recording has no frames. Record it again.")
    times_s = _times([_cell(row, header.index(_TIME)) for row in rows[1:]], path)
    places = [columns[name] for name in names]
    codes = [
        _code([_cell(row, place) for place in places], where=f"{path}: {_cell(row, 0)}")
        for row in rows[1:]
    ]
    steps = np.diff(times_s)
    moving = steps[steps > 0]
    fps = round(1.0 / float(np.median(moving)), 2) if len(moving) else float(_USUAL_RATE)
    return Recording(names, times_s, np.asarray(codes, np.float32), fps)


def _cell(row: Sequence[str], place: int) -> str:
    return row[place].strip() if place < len(row) else ""


def _code(cells: Sequence[str], *, where: str) -> Float[np.ndarray, " e"]:
    if not any(cells):
        return np.full(len(cells), np.nan, np.float32)
    try:
        code = np.array([float(cell) for cell in cells], np.float32)
    except ValueError:
        code = np.array([np.nan], np.float32)
    if not np.isfinite(code).all():
        raise errors.DataFormatError(
            f"{where}: expected {len(cells)} finite weights, or none where no face was seen; got "
            f"{','.join(cells)[:60]!r}. Remove the line or export the recording again."
        )
    return code


def _times(timecodes: Sequence[str], path: pathlib.Path) -> Float[np.ndarray, " f"]:
    """Turns timecodes into seconds after the first."""
    matches = [_TIMECODE.fullmatch(timecode) for timecode in timecodes]
    for timecode, match in zip(timecodes, matches, strict=True):
        if match is None:
            raise errors.DataFormatError(
                f"{path}: expected a timecode HH:MM:SS:FF.fff; got {timecode!r:.40}. Export the "
                "recording again."
            )
    parts = np.array([match.groups() for match in matches if match], np.float64)
    seconds = parts[:, :3] @ (3600.0, 60.0, 1.0)
    # The largest frame number tells the rate, once a second has come to its end.
    least = np.floor(parts[:, 3].max()) + 1
    fitting = [rate for rate in _RATES if rate >= least]
    ended = len(set(seconds)) > 1 and fitting
    times = seconds + parts[:, 3] / (fitting[0] if ended else max(_USUAL_RATE, least))
    times += _DAY_S * np.cumsum(np.diff(times, prepend=times[0]) < -_DAY_S / 2)  # midnight
    steps_back = np.diff(times, prepend=times[0]) < -_LARGEST_STEP_BACK_S
    if steps_back.any():
        raise errors.DataFormatError(
            f"{path}: timecode {timecodes[int(np.argmax(steps_back))]} lies before the one above "
            "it. Export one recording alone."
        )
    return np.maximum.accumulate(times - times[0])
