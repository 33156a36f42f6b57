"""Turns readings of an estimator into ARKit weights, by one linear map between named coefficients.

MediaPipe's face landmarker was trained on photographs. On rendered faces it answers differently
for different people, several of its coefficients say nothing, and some move when only another
one should. The map that ships is fitted on rendered people whose ARKit weights are known, one
frame each, and returns only the coefficients that can be told from those of people left out; the
file says what it was fitted on (experiments/log/E004-estimator-card.md).
"""

import dataclasses
import hashlib
import importlib.resources
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.core.readers import text_files
from ganavatar_jax.faces import coefficients
from ganavatar_jax.runs import identity

FORMAT = "ganavatar_jax.calibration/1"
NONE = "none"
_ASSETS = {"synthetic-people": "calibration_synthetic_people.json"}


@dataclasses.dataclass(frozen=True)
class Calibration:
    """An affine map: weights of `names` = readings of `inputs` @ matrix + offset."""

    inputs: tuple[str, ...]
    names: tuple[str, ...]
    matrix: Float[np.ndarray, "e k"]
    offset: Float[np.ndarray, " k"]
    provenance: Mapping[str, Any]  # what it was fitted on and how well it does; not computed with

    def apply(self, codes: Float[np.ndarray, "*b r"], names: Sequence[str]) -> np.ndarray:
        """Calibrates readings.

        Args:
          codes: Readings whose last axis is named by `names`.
          names: Names of what was read, in any order; more than `inputs` may be there.

        Returns:
          Coefficients named by `self.names`, float32; not clipped to [0, 1].

        Raises:
          ValueError: an input is not among the names.
        """
        values = coefficients.select(codes, names, self.inputs) @ self.matrix + self.offset
        return values.astype(np.float32)


def load(name_or_path: str | os.PathLike[str]) -> Calibration:
    """Loads a calibration that ships with the package, or one from a file.

    Args:
      name_or_path: "synthetic-people", or a file that `save` wrote.

    Returns:
      The calibration.

    Raises:
      EstimatorError: there is no such calibration.
      DataFormatError: the file breaks the format.
    """
    shipped = _ASSETS.get(os.fspath(name_or_path))
    if shipped is not None:
        text = (importlib.resources.files("ganavatar_jax") / "assets" / shipped).read_text("utf-8")
        return _from_json(text, place=shipped)
    path = pathlib.Path(name_or_path)
    if not path.is_file():
        raise errors.EstimatorError(
            f"{path}: expected a calibration, one of {NONE}, {', '.join(_ASSETS)} or a file; "
            "there is none. Check estimator.calibration."
        )
    try:
        text = text_files.read_text(path)
    except (OSError, ValueError) as error:
        raise errors.DataFormatError(
            f"{path}: expected a calibration; got {error}. Fit it anew."
        ) from error
    return _from_json(text, place=str(path))


def digest(name_or_path: str | os.PathLike[str]) -> str | None:
    """Computes the checksum of a calibration's file.

    Args:
      name_or_path: As for `load`.

    Returns:
      Hexadecimal SHA-256; None where there is no such file.
    """
    shipped = _ASSETS.get(os.fspath(name_or_path))
    if shipped is None:
        return identity.digest_file(name_or_path)
    asset = importlib.resources.files("ganavatar_jax") / "assets" / shipped
    return hashlib.sha256(asset.read_bytes()).hexdigest()


def save(path: str | os.PathLike[str], calibration: Calibration, *, digits: int = 5) -> None:
    """Writes a calibration as JSON, one line a coefficient.

    Args:
      path: The file.
      calibration: What to write.
      digits: Digits kept behind the point.

    Raises:
      RunError: the file cannot be written.
    """

    def line(values: Any) -> str:
        return json.dumps(values, allow_nan=False)

    columns = ",\n    ".join(
        f"{line(name)}: {line([round(float(value), digits) for value in column])}"
        for name, column in zip(
            calibration.names, np.vstack([calibration.offset, calibration.matrix]).T, strict=True
        )
    )
    files.write_atomic(
        path,
        f'{{\n  "format": {line(FORMAT)},\n  "provenance": {line(dict(calibration.provenance))},\n'
        f'  "inputs": {line(list(calibration.inputs))},\n'
        f'  "offset_and_weights": {{\n    {columns}\n  }}\n}}\n',
    )


def _from_json(text: str, *, place: str) -> Calibration:
    """Reads a calibration whose table fits its own names."""
    try:
        content = text_files.parse_json(text)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        inputs, names = tuple(content["inputs"]), tuple(content["offset_and_weights"])
        table = np.array(list(content["offset_and_weights"].values()), np.float64)
        if table.shape != (len(names), 1 + len(inputs)) or not np.isfinite(table).all():
            raise ValueError(f"a table of shape {table.shape} for {len(inputs)} inputs")
        provenance = dict(content["provenance"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise errors.DataFormatError(
            f'{place}: expected a calibration of the format "{FORMAT}", for each coefficient its '
            f"offset and one finite weight an input; got {error}. Fit it anew."
        ) from error
    return Calibration(inputs, names, table[:, 1:].T, table[:, 0], provenance)
