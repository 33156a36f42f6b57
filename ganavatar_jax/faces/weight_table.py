"""What the default estimator reads off faces whose ARKit weights are known: a table that ships.

A reading of a small picture answers a weight in part: closed lids of weight 1 read as about 0.4. A
driver that comes as weights (a Live Link recording, a file, a rendered capture) is therefore
brought to readings before it drives an avatar that was mapped with them. The table holds one slope
a coefficient, fitted on rendered people (experiments/weight_table.py); where a face at rest reads
is the avatar's own.
"""

import dataclasses
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.core.readers import text_files

FORMAT = "ganavatar_jax.weight_table/1"
ESTIMATOR = ("mediapipe", "synthetic-people")  # name and calibration it was fitted with
_ASSET = "weight_table.json"


@dataclasses.dataclass(frozen=True)
class WeightTable:
    """Slopes of readings over weights.

    Attributes:
      slopes: Coefficient -> how far its reading moves for a weight of 1.
      provenance: What it was fitted on; not computed with.
    """

    slopes: Mapping[str, float]
    provenance: Mapping[str, Any]

    def of(self, names: Sequence[str]) -> Float[np.ndarray, " e"] | None:
        """Returns the slopes of some coefficients; None where it lacks one."""
        if not set(names) <= set(self.slopes):
            return None
        return np.array([self.slopes[name] for name in names], np.float32)


def load() -> WeightTable:
    """Loads the table.

    Returns:
      The table.

    Raises:
      DataFormatError: the package's file is damaged.
    """
    asset = importlib.resources.files("ganavatar_jax") / "assets" / _ASSET
    try:
        content = text_files.parse_json(asset.read_text("utf-8"))
        table = _parse(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.DataFormatError(
            f'{_ASSET}: expected a table of the format "{FORMAT}"; got {error}. Install the '
            "package again."
        ) from error
    return table


def _parse(content: Any) -> WeightTable:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}")
    slopes = {str(name): float(slope) for name, slope in content["slopes"].items()}
    return WeightTable(slopes, dict(content["provenance"]))
