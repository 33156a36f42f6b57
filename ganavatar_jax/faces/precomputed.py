"""Expression codes that were computed elsewhere, looked up by frame name.

Two layouts: JSON `{"names": [...], "codes": {frame: [...]}}` (a capture's expressions.json) and
NPZ with arrays `names` [e], `frames` [f] and `codes` [f e].
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
from ganavatar_jax.faces import estimators


class PrecomputedEstimator:
    """An `estimators.Estimator` that looks codes up; frames it does not know are unreadable."""

    def __init__(
        self, names: Sequence[str], frames: Sequence[str], codes: Float[np.ndarray, "f e"]
    ) -> None:
        """Keeps the table.

        Args:
          names: Name of each coefficient.
          frames: Name of each frame.
          codes: One row per frame.
        """
        self.names = tuple(names)
        self._codes = dict(zip(frames, codes, strict=True))

    def estimate(
        self, image_u8: UInt8[np.ndarray, "h w 3"], *, frame: str | None = None
    ) -> estimators.Reading | None:
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
        code = self._codes.get(frame)
        return None if code is None else estimators.Reading(code.copy(), 1.0, None)


def load(path: str | os.PathLike[str]) -> PrecomputedEstimator:
    """Reads a codes file, JSON or NPZ by its suffix.

    Args:
      path: The file.

    Returns:
      The estimator that looks codes up in it.

    Raises:
      EstimatorError: the file does not exist.
      DataFormatError: the file breaks its layout; names the file and the frame or key.

    Source: ours.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise errors.EstimatorError(
            f"{path}: expected a codes file (.json or .npz); there is none. Set codes_path."
        )
    names, frames, rows = _read_npz(path) if path.suffix == ".npz" else _read_json(path)
    checked = [
        _checked_row(row, len(names), place=f"{path}: frame {frame}")
        for frame, row in zip(frames, rows, strict=True)
    ]
    codes = np.asarray(checked, np.float32).reshape(len(frames), len(names))
    return PrecomputedEstimator(names, frames, codes)


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


def _read_json(path: pathlib.Path) -> tuple[list[str], list[str], list[Any]]:
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
    return content["names"], list(content["codes"]), list(content["codes"].values())


def _read_npz(path: pathlib.Path) -> tuple[list[str], list[str], list[Any]]:
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
    return names.tolist(), frames.tolist(), list(codes)
