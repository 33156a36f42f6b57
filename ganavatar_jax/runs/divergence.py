"""Warns where losses are far above those a training started with: finite, yet not learning."""

import logging
import math
import os
from collections.abc import Mapping, Sequence

from ganavatar_jax.runs import metric_writer

_LOG = logging.getLogger(__name__)
_FACTOR = 10.0
_SMALLEST = 1.0  # losses that start near zero may rise to this without a word


class DivergenceWatch:
    """Compares the losses of a training with those of its first line of metrics."""

    def __init__(
        self, path: str | os.PathLike[str], *, stage: str, names: Sequence[str], advice: str
    ) -> None:
        """Finds the losses the training started with, if it began earlier.

        Args:
          path: The metrics file.
          stage: Name of the stage.
          names: Losses that do not rise in a sound training.
          advice: What the user can change.

        Raises:
          RunError: the metrics file is damaged.
        """
        self._stage, self._names, self._advice = stage, names, advice
        self._first: dict[str, float] = {}
        self._warned = False
        for line in metric_writer.read_metrics(path, stage=stage):
            self._learn(line)

    def look(self, step: int, values: Mapping[str, float], *, last: bool = False) -> None:
        """Warns once, and again with the last step, where a loss is far above its start.

        Args:
          step: Iteration.
          values: Losses by name; others are passed over.
          last: Whether the training ends here.
        """
        self._learn(values)
        risen = {
            name: values[name]
            for name, first in self._first.items()
            if name in values and values[name] > _FACTOR * max(first, _SMALLEST)
        }
        if not risen or (self._warned and not last):
            return
        self._warned = True
        shown = ", ".join(f"{n} {v:.4g} (at first {self._first[n]:.4g})" for n, v in risen.items())
        _LOG.warning(
            "%s: losses are far above those at the start by step %d: %s; the training has probably "
            "diverged. %s",
            self._stage,
            step,
            shown,
            self._advice,
        )

    def _learn(self, values: Mapping[str, object]) -> None:
        """Keeps the first finite value of each loss."""
        for name in self._names:
            value = values.get(name)
            if name not in self._first and isinstance(value, float) and math.isfinite(value):
                self._first[name] = value
