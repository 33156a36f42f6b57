"""When each frame of a film is shown, from time stamps that may be missing or jump back."""

import itertools
from collections.abc import Sequence

import numpy as np

from ganavatar_jax.core.arrays import Float

_USUAL_FPS = 25.0
# Rates that a film of changing rate is brought to: its own, or the next one above.
_RATES = (5, 6, 8, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 120, 240)
_LOWER = 0.95  # Share of a rate that counts as the rate.
_QUICK = 20.0  # Percentile of the steps that says how quick a film of changing rate is.
_HALF = 0.5  # Of a step: how far stamps of a constant rate may lie from it.


def seconds(stamps: Sequence[float | None], fps: float | None) -> Float[np.ndarray, " f"]:
    """Makes times of time stamps.

    Args:
      stamps: Seconds, in the order shown; None where the file has none.
      fps: Rate that the file names, if it does.

    Returns:
      Seconds after the first frame, rising. A step that is missing or leads back (joined parts,
      counters that start anew) is as long as usual.
    """
    pairs = itertools.pairwise(stamps)
    steps = [0.0 if a is None or b is None else b - a for a, b in pairs]
    forward = [step for step in steps if step > 0.0]
    usual = float(np.median(forward)) if forward else 1.0 / (fps or _USUAL_FPS)
    rising = [step if step > 0.0 else usual for step in steps]
    return np.concatenate([[0.0], np.cumsum(rising)])


def find_rate(times_s: Float[np.ndarray, " f"], fps: float | None) -> float:
    """Finds a constant rate at which a film loses nothing.

    Args:
      times_s: When each frame is shown.
      fps: Rate that the file names, if it does; believed where the times agree.

    Returns:
      Frames a second: the film's own where it has one, else a usual rate at which its quick parts
      keep their frames.
    """
    if len(times_s) < 2:
        return fps or _USUAL_FPS
    steps = np.diff(times_s)
    rate = (len(times_s) - 1) / float(times_s[-1])
    away = np.abs(times_s * rate - np.arange(len(times_s))).max()
    if away > _HALF:
        rate = 1.0 / float(np.percentile(steps, _QUICK))
    if fps and abs(fps / rate - 1.0) < 1.0 - _LOWER:
        return fps
    if away <= _HALF:
        return rate
    nearest = min(_RATES, key=lambda usual: abs(usual / rate - 1.0))
    if abs(nearest / rate - 1.0) < 1.0 - _LOWER:
        return float(nearest)
    return float(next((usual for usual in _RATES if usual > rate), _RATES[-1]))
