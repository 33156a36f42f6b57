"""Finds losses, gradients and inputs that are no finite numbers before anything of them is saved.

A step says itself whether its loss and its gradients were finite (`describe`), and the answers stay
on the devices until somebody looks: before a checkpoint, a line of metrics, a sample picture. By
then the state may have gone a few steps further; none of it is kept.
"""

import logging
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import errors, trees
from ganavatar_jax.core.arrays import Array, PyTree

_LOG = logging.getLogger(__name__)
KEY = "nonfinite"  # what a step's metrics call the answer; "nonfinite/<phase>" in an iteration's
RATE_ADVICE = (
    "Lower the learning rates (gan.g_lr, gan.d_lr, gan.reconstruction.adam.lr) or change "
    "gan.gamma, and run the same command"
)
_SKIP_ADVICE = "--config.gan.skip_nonfinite=N passes over up to N such steps"
_RISE = 3.0  # losses that rose this much before the fault point to the learning rates
_NAMED = 4  # frames that a message names


def describe(metrics: Mapping[str, Array], gradients: PyTree) -> Array:
    """Says whether what a step computed is finite; part of the step.

    Args:
      metrics: Losses and other numbers of the step.
      gradients: As they came, before anything is replaced in them.

    Returns:
      Two truths: whether metrics, and whether gradients hold NaN or infinity [2].
    """
    return jnp.stack([~_all_finite(dict(metrics)), ~_all_finite(gradients)])


def keep_if(spoiled: Array, before: PyTree, after: PyTree) -> PyTree:
    """Takes a step back where it was computed from what is no number; part of the step.

    Args:
      spoiled: From `describe`.
      before: The state that went in.
      after: The state that came out.

    Returns:
      The one or the other.
    """
    back = jnp.any(spoiled)
    return jax.tree.map(lambda old, new: jnp.where(back, old, new), before, after)


def name_not_finite(tree: PyTree) -> list[str]:
    """Lists the arrays that hold NaN or infinity.

    Args:
      tree: Nested dicts of arrays.

    Returns:
      Their dotted names.
    """
    return [
        name
        for name, leaf in trees.flatten_names(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(np.asarray(leaf)).all()
    ]


class Guard:
    """Stops a training at what is not finite, or counts what it passes over.

    Attributes:
      skipped: Steps that were passed over so far, those before a resume included.
    """

    def __init__(self, stage: str, *, limit: int, start: int, skipped: int = 0) -> None:
        """Starts to look.

        Args:
          stage: Name of the stage.
          limit: Steps that may be passed over; 0 stops at the first.
          start: Iteration the training goes on after.
          skipped: Steps passed over before.
        """
        self._stage, self._limit, self._start = stage, limit, start
        self._waiting: list[tuple[int, str, Array]] = []
        self._losses: dict[str, list[float]] = {}
        self.skipped = skipped

    def check_frames(self, frames: Mapping[str, np.ndarray], step: int) -> None:
        """Refuses a batch whose cameras are no numbers.

        Args:
          frames: Holds label25 [b 25] and, if known, index [b].
          step: Iteration it is for.

        Raises:
          RunError: names the frames.
        """
        good = np.isfinite(frames["label25"]).all(axis=1)
        if good.all():
            return
        bad = frames["index"][~good] if "index" in frames else np.flatnonzero(~good)
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise errors.RunError(
            f"{self._stage}: the batch of step {step} holds cameras that are no finite numbers, of "
            f"training frames {', '.join(str(n) for n in bad[:_NAMED])}{more} (counted from 0); "
            "nothing of it is saved. Prepare the dataset again (--task=prepare_data) from a "
            "capture with whole cameras."
        )

    def take(self, step: int, metrics: dict[str, Any]) -> dict[str, Any]:
        """Keeps what the steps of an iteration say of themselves, to look at it later.

        Args:
          step: Iteration, counted from 1.
          metrics: Those of the iteration.

        Returns:
          The metrics without it.
        """
        rest = {}
        for name, value in metrics.items():
            if name.startswith(KEY):
                self._waiting.append((step, name.partition("/")[2], value))
            else:
                rest[name] = value
        return rest

    def learn(self, values: Mapping[str, float]) -> None:
        """Remembers losses, to tell how they were before a fault.

        Args:
          values: Metrics by name.
        """
        for name, value in values.items():
            if name.startswith("loss/") and math.isfinite(value):
                self._losses.setdefault(name, []).append(value)

    def look(self, state: PyTree) -> None:
        """Looks at all that was taken since the last time; waits for the devices.

        Args:
          state: As it is now, nested dicts of whole arrays; only looked at where a step failed.

        Raises:
          RunError: a step was not finite, and may not be passed over.
        """
        waiting, self._waiting = self._waiting, []
        told = jax.device_get([flags for _, _, flags in waiting])
        for (step, phase, _), (loss, gradient) in zip(waiting, told, strict=True):
            if not (loss or gradient):
                continue
            what = "the loss" if loss else "the gradient"
            self.skipped += 1
            if self.skipped > self._limit:
                raise errors.RunError(self._describe(what, phase, step, state))
            _LOG.warning(
                "%s: %s of phase %s holds NaN or infinity in step %d: passed over (%d of at most "
                "%d).",
                self._stage,
                what,
                phase,
                step,
                self.skipped,
                self._limit,
            )

    def _describe(self, what: str, phase: str, step: int, state: PyTree) -> str:
        """Says what happened, why probably, and what to do."""
        passed = f" after {self._limit} that were passed over" if self._limit else ""
        return (
            f"{self._stage}: {what} of phase {phase} holds NaN or infinity in step {step}{passed}; "
            f"the training has diverged, nothing of it is saved and the last checkpoint stays. "
            f"Likely cause: {self._guess(what, step, state)}. {RATE_ADVICE}; {_SKIP_ADVICE}."
        )

    def _guess(self, what: str, step: int, state: PyTree) -> str:
        """Names the likeliest cause: losses before, the state now and the moment tell it."""
        risen = [
            f"{name} rose from {seen[0]:.3g} to {seen[-1]:.3g}"
            for name, seen in self._losses.items()
            if seen[-1] > _RISE * max(abs(seen[0]), 0.1)
        ]
        if risen:
            return f"learning rates that are too high ({risen[0]} before)"
        spoiled = name_not_finite(state)
        if step == self._start + 1 and what == "the loss" and spoiled:
            return f"weights that were no numbers when it began ({spoiled[0]})"
        if step == self._start + 1 and what == "the loss":
            return "an input or a weight that is no number, or images beyond what float32 holds"
        if what == "the loss":
            return "a learning rate that is too high: the step before moved the weights too far"
        return (
            "a penalty whose slope float32 cannot hold (gan.gamma too large, "
            "devices.matmul_precision below highest), or a learning rate that is too high"
        )


def _all_finite(tree: PyTree) -> Array:
    """Reduces on the device: one truth for all arrays."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))
