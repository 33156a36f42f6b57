"""Recordings of the Live Link Face app: ARKit weights by timecode, in a CSV file.

One row a frame, below a header: `Timecode`, `BlendShapeCount`, the 52 ARKit weights with a capital
first letter, and angles of head and eyes, which are no coefficients and are passed over. A
timecode is HH:MM:SS:FF.fff: the frame within the second and its thousandths. Frames in which the
phone saw no face have a count of 0 and nothing behind it. Spreadsheets save such files again with
semicolons, tabs and decimal commas, and a phone that stops writes half a last row.

Source: files of the app, as its readers describe them.
"""

import logging
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ganavatar_jax.core import coefficient_names, errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.core.readers import text_files
from ganavatar_jax.faces import coefficients

_LOG = logging.getLogger(__name__)
_TIME = "Timecode"
_COUNT = "BlendShapeCount"
_TIMECODE = re.compile(r"(\d{1,2}):(\d{1,2}):(\d{1,2})[:;](\d{1,3}(?:[.,]\d+)?)")
_RATES = (24, 25, 30, 48, 50, 60, 100, 120, 240)
_USUAL_RATE = 60  # What the app records with, unless set otherwise.
_DAY_S = 24 * 3600
_LARGEST_STEP_BACK_S = 1.0
_MOST_FRAMES = 10**6


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
        table = text_files.parse_table(text_files.read_text(path))
        places = _find_columns(table.header, path)
        timecodes, codes, cut = _read_rows(table, places, path)
    except (OSError, ValueError) as error:
        raise errors.DataFormatError(
            f"{path}: expected a table of comma-separated values; got {error}. Export the "
            "recording again."
        ) from error
    if not codes:
        raise errors.DataFormatError(f"{path}: the recording has no frames. Record it again.")
    if cut:
        _LOG.warning("%s: the last row is cut off (%.40s); it is left out.", path, cut)
    times_s = _times(timecodes, path)
    steps = np.diff(times_s)
    moving = steps[steps > 0]
    fps = round(1.0 / float(np.median(moving)), 2) if len(moving) else float(_USUAL_RATE)
    names = tuple(name for name in places if name not in (_TIME, _COUNT))
    return Recording(names, times_s, np.asarray(codes, np.float32), fps)


def _find_columns(header: Sequence[str], path: pathlib.Path) -> dict[str, int]:
    """Finds the timecode and the coefficients, in ARKit's order."""
    spelled = coefficient_names.canonical(header)
    columns = {cell.lower(): place for place, cell in enumerate(spelled)}
    names = coefficients.shared(coefficients.ARKIT_NAMES, spelled)
    if _TIME.lower() not in columns or not names:
        raise errors.DataFormatError(
            f"{path}: expected a header {_TIME},{_COUNT},EyeBlinkLeft,... as Live Link Face writes "
            f"it; got {','.join(header)[:60]!r}. Export the recording again."
        )
    twice = [name for name in names if spelled.count(name) > 1]
    if twice:
        raise errors.DataFormatError(
            f"{path}: the header names {twice[0]} twice. Remove one of the columns."
        )
    found = {_TIME: columns[_TIME.lower()], _COUNT: columns.get(_COUNT.lower(), len(header))}
    return found | {name: columns[name.lower()] for name in names}


def _read_rows(
    table: text_files.Table, places: Mapping[str, int], path: pathlib.Path
) -> tuple[list[str], list[Float[np.ndarray, " e"]], str]:
    """Reads timecodes and codes, and what a last row that is cut off begins with."""
    timecodes: list[str] = []
    codes: list[Float[np.ndarray, " e"]] = []
    time_place, count_place, *weight_places = places.values()
    numbers, unseen = text_files.NumberReader(), np.full(len(weight_places), np.nan, np.float32)
    ahead = next(table.rows, None)
    while ahead is not None:
        cells, ahead = ahead, next(table.rows, None)
        timecode, weights = _cell(cells, time_place), [_cell(cells, p) for p in weight_places]
        fault = _find_fault(timecode, path)
        if fault is None and any(weights):
            try:
                codes.append(np.array(numbers.read(weights), np.float32))
            except ValueError as error:
                shown = ",".join(weights)[:60]
                fault = (
                    f"{path}: {timecode}: expected {len(weights)} finite weights, or none where no "
                    f"face was seen; got {error} ({shown!r}). Remove the line or export the "
                    "recording again."
                )
        elif fault is None:
            codes.append(unseen)
        is_cut = len(cells) < len(table.header) or not table.whole
        is_cut = is_cut and ahead is None and bool(timecodes)
        # A frame without a face says that it has no weights; a row that was cut does not.
        lacks = fault is None and not any(weights) and _cell(cells, count_place) != "0"
        if is_cut and (fault is not None or lacks):
            return timecodes, codes[: len(timecodes)], ",".join(cells)
        if fault is not None:
            raise errors.DataFormatError(fault)
        timecodes.append(timecode)
        if len(codes) > _MOST_FRAMES:
            raise errors.DataFormatError(
                f"{path}: holds more than {_MOST_FRAMES} frames. Cut the recording."
            )
    return timecodes, codes, ""


def _find_fault(timecode: str, path: pathlib.Path) -> str | None:
    if _TIMECODE.fullmatch(timecode):
        return None
    return (
        f"{path}: expected a timecode HH:MM:SS:FF.fff; got {timecode!r:.40}. Export the recording "
        "again."
    )


def _cell(row: Sequence[str], place: int) -> str:
    return row[place].strip() if place < len(row) else ""


def _times(timecodes: Sequence[str], path: pathlib.Path) -> Float[np.ndarray, " f"]:
    """Turns timecodes into seconds after the first."""
    matches = [_TIMECODE.fullmatch(timecode.replace(",", ".")) for timecode in timecodes]
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
