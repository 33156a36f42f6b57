"""Warns where a training goes wrong in finite numbers: losses rise, one side wins, copies come."""

import logging
import math
import os
from collections.abc import Mapping, Sequence

from ganavatar_jax.runs import metric_writer

_LOG = logging.getLogger(__name__)
_FACTOR = 10.0
_COLLAPSED = 0.2  # samples this much closer than they were are copies
_APART = 30.0  # logits; the generator's slope, sigmoid(-15), is gone by half of it
_LINES = 3
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


class GanWatch:
    """Warns where the discriminator has won, or where the generator makes the same picture again.

    Attributes:
      SPREAD: What the mean distance between generated samples is called among the metrics.
    """

    SPREAD = "samples/spread"

    def __init__(self, path: str | os.PathLike[str], *, stage: str) -> None:
        """Finds how far apart samples were, if the training began earlier.

        Args:
          path: The metrics file.
          stage: Name of the stage.

        Raises:
          RunError: the metrics file is damaged.
        """
        self._stage = stage
        self._widest = 0.0
        self._told: set[str] = set()
        self._won = 0
        for line in metric_writer.read_metrics(path, stage=stage):
            self._widest = max(self._widest, _number(line.get(self.SPREAD)) or 0.0)

    def look(self, step: int, values: Mapping[str, object]) -> None:
        """Warns once of each.

        Args:
          step: Iteration.
          values: Metrics by name; what is not there is not looked at.
        """
        self._look_at_logits(step, values)
        spread = _number(values.get(self.SPREAD))
        if spread is None:
            return
        self._widest = max(self._widest, spread)
        if spread < _COLLAPSED * self._widest:
            self._warn(
                "samples",
                f"samples differ {spread:.3g} from each other by step {step}, {self._widest:.3g} "
                "at most before: the generator makes nearly the same picture of every latent (mode "
                "collapse). Look at samples/gan; a larger gan.gamma, lower gan.d_lr or "
                "gan.augment=ada help, from a checkpoint before.",
            )

    def _look_at_logits(self, step: int, values: Mapping[str, object]) -> None:
        """The discriminator has won where its logits lie far apart, line after line."""
        real, fake = (_number(values.get(name)) for name in ("scores/real", "scores/fake"))
        if real is None or fake is None:
            return
        self._won = self._won + 1 if real - fake > _APART else 0
        if self._won >= _LINES:
            self._warn(
                "logits",
                f"logits of real and generated images lie {real - fake:.3g} apart by step {step}: "
                "the discriminator tells them apart without fail, and the generator learns nothing "
                "from it. A larger gan.gamma, lower gan.d_lr or gan.augment=ada help.",
            )

    def _warn(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            _LOG.warning("%s: %s", self._stage, text)


def _number(value: object) -> float | None:
    return value if isinstance(value, float) and math.isfinite(value) else None
