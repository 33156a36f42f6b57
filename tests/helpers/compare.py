"""Comparing arrays with a reference, in units of the reference's own spread.

`limit` is the largest allowed |actual - expected| divided by the standard deviation of expected.
`LIMITS` holds the limit of each kind of operation: about ten times the float32 rounding floor,
measured against float64 on a CPU. Loosening one needs a line in CHANGELOG.md.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

LIMITS: Mapping[str, float] = {
    "layout": 0.0,  # transposes, codecs, uint8
    "geometry": 5e-6,  # rays, boxes, rotations
    "layer": 5e-5,  # one convolution or linear layer
    "network": 1e-4,  # mapping, synthesis to 256
    "compositing": 5e-5,
    "importance": 1e-4,  # for 99.9 % of samples: at a bin's edge rounding picks the bin
    "gradient": 2e-4,  # of one stage; 1e-3 end to end
}


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far an array is from its reference; errors are divided by `spread`."""

    max: float
    mean: float
    rms: float
    spread: float
    worst_index: tuple[int, ...]
    worst_actual: float
    worst_expected: float
    share_within: float

    def __str__(self) -> str:
        """Says everything a failure needs on one line."""
        return (
            f"max {self.max:.3g} at {self.worst_index} (actual {self.worst_actual:.8g}, expected "
            f"{self.worst_expected:.8g}), mean {self.mean:.3g}, rms {self.rms:.3g}, spread "
            f"{self.spread:.3g}, share within the limit {self.share_within:.6f}"
        )


def measure(actual: Any, expected: Any, *, limit: float = 0.0) -> Difference:
    """Measures the error of `actual`; a NaN or infinity on one side only is an infinite error."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    assert expected.size > 0, "nothing to compare"
    with np.errstate(invalid="ignore"):
        error = np.abs(actual - expected)
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    error = np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))
    finite = expected[np.isfinite(expected)]
    # A constant reference has no spread: its size is the unit, or 1 when it is all zeros.
    spread = float(finite.std()) if finite.size else 1.0
    if spread <= 1e-12 * float(np.abs(finite).max(initial=0.0)):
        spread = float(np.abs(finite).max(initial=0.0)) or 1.0
    error = error / spread
    worst = np.unravel_index(np.argmax(error), error.shape)
    return Difference(
        max=float(error.max()),
        mean=float(error.mean()),
        rms=float(np.sqrt(np.mean(error**2))),
        spread=spread,
        worst_index=tuple(int(i) for i in worst),
        worst_actual=float(actual[worst]),
        worst_expected=float(expected[worst]),
        share_within=float(np.mean(error <= limit)),
    )


def assert_parity(
    actual: Any,
    expected: Any,
    *,
    limit: float,
    name: str,
    rms_limit: float | None = None,
    share: float = 1.0,
) -> None:
    """Fails unless a `share` of the entries lies within `limit` (and the rms within rms_limit)."""
    difference = measure(actual, expected, limit=limit)
    print(f"{name}: {difference}")
    assert difference.share_within >= share, f"{name}: limit {limit:.3g}; {difference}"
    if rms_limit is not None:
        assert difference.rms <= rms_limit, f"{name}: rms limit {rms_limit:.3g}; {difference}"


def relative_l2(actual: Any, expected: Any) -> float:
    """Length of the error over the length of the reference."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-300))


def cosine(actual: Any, expected: Any) -> float:
    """Cosine of the angle between two arrays; 1 when both are zero, 0 when only one is."""
    actual, expected = np.ravel(np.asarray(actual, np.float64)), np.ravel(expected)
    lengths = float(np.linalg.norm(actual)), float(np.linalg.norm(expected))
    if min(lengths) == 0.0:
        return float(lengths == (0.0, 0.0))
    return float(actual @ np.asarray(expected, np.float64)) / (lengths[0] * lengths[1])


def assert_gradient(
    actual: Any, expected: Any, *, name: str, l2_limit: float, cosine_limit: float = 0.9999
) -> None:
    """Fails unless a gradient has the reference's direction and length."""
    length, angle = relative_l2(actual, expected), cosine(actual, expected)
    line = f"{name}: relative L2 {length:.3g}, cosine {angle:.8f}"
    print(line)
    # Written so that a NaN fails.
    assert length <= l2_limit, f"{line}; L2 limit {l2_limit:.3g}"
    assert angle >= cosine_limit, f"{line}; cosine limit {cosine_limit}"
