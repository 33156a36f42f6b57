"""Whether the avatar does what it is told: codes, lids and lips of its renders beside the truth's.

Codes are compared in the units of one estimator: what it reads off the held-out frames is what was
asked for, what it reads off the renders is what was done.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganavatar_jax.core.arrays import Bool, Float
from ganavatar_jax.faces import estimation, measures
from ganavatar_jax.metrics import expression

MAX_CODE_ANGLE_DEG = 35.0  # Estimators of expression are unreliable on faces seen from the side.

_ENDS = ("", "_both_sides")
_MEASURES = {
    "code_correlation": expression.code_correlation,
    "code_slope": expression.code_slope,
    "code_range": expression.code_range,
}
_TRUE = "code_correlation_stored"
KEYS = (*(f"{name}{end}" for name in (*_MEASURES, _TRUE) for end in _ENDS), "openings")
_FRAMES = (
    "over frames in which a face is found, whose camera is within "
    f"{MAX_CODE_ANGLE_DEG:g} degrees of frontal"
)
DEFINITIONS = {
    "code_correlation": "Pearson's r between the code the estimator reads off the held-out frame "
    f"and the one it reads off the render, {_FRAMES}; null where a coefficient does not vary",
    "code_slope": "slope of the least-squares line of what is read off the render over what is "
    "read off the held-out frame, over the same frames: 1 obeys in full",
    "code_range": "2nd and 98th percentile of what is read off held-out frames (asked) and renders "
    "(read_back), over the same frames",
    _TRUE: "Pearson's r between the code stored in the capture and the one read off the render, "
    "over the same frames; null where the capture stores none",
    "..._both_sides": "the same of the means of left and right coefficients",
    "openings": "distance of upper and lower lid, and of the inner lips, by landmarks, in pixels "
    "of these images, over the same frames: means of held-out frames and of renders, Pearson's r "
    "and slope of the second over the first; lids is the mean of both eyes",
}


@dataclasses.dataclass(frozen=True)
class Codes:
    """Codes of held-out frames; all readings by one estimator.

    Attributes:
      names: Coefficients that drive the avatar.
      of_frames: Readings of the held-out frames, columns `names`.
      of_renders: Readings of the renders, columns `names`.
      stored: Codes stored in the capture, NaN where a frame has none; None without such names.
    """

    names: Sequence[str]
    of_frames: estimation.Readings
    of_renders: estimation.Readings
    stored: Float[np.ndarray, "f e"] | None = None


def measure(
    codes: Codes | None, angles_deg: Float[np.ndarray, "f 2"]
) -> tuple[dict[str, dict[str, Any] | None], int]:
    """Compares codes near the front only: beyond, the estimator guesses.

    Args:
      codes: The codes; None where nobody reads renders.
      angles_deg: Yaw and pitch of every camera.

    Returns:
      `KEYS` -> values by coefficient, None without codes; and how many frames they are of.
    """
    if codes is None:
        return dict.fromkeys(KEYS), 0
    yaw, pitch = np.radians(angles_deg).T
    from_frontal_deg = np.degrees(np.arccos(np.clip(np.cos(yaw) * np.cos(pitch), -1.0, 1.0)))
    asked, done = codes.of_frames.codes, codes.of_renders.codes
    used = codes.of_frames.found & codes.of_renders.found
    used &= from_frontal_deg <= MAX_CODE_ANGLE_DEG
    used &= np.isfinite(asked).all(axis=1) & np.isfinite(done).all(axis=1)
    single = (asked, done, codes.stored), codes.names
    found: dict[str, dict[str, Any] | None] = {}
    for end, (tables, names) in zip(_ENDS, (single, _joined(*single)), strict=True):
        for name, measure_of in _MEASURES.items():
            found[name + end] = measure_of(tables[0], tables[1], used, names)
        found[_TRUE + end] = _correlate_stored(tables[2], tables[1], used, names)
    openings = codes.of_frames.openings_px, codes.of_renders.openings_px
    found["openings"] = _compare_openings(*openings, used)
    return {key: found[key] for key in KEYS}, int(used.sum())


def describe(metrics: Mapping[str, Any]) -> list[str]:
    """Tells how well the codes are obeyed, as a table to print.

    Args:
      metrics: What metrics.json holds.

    Returns:
      Lines: a heading and one for each coefficient and opening; none without codes.
    """
    if metrics["code_correlation"] is None:
        return []
    lines = [f"{'':<24}{'r':>8}{'slope':>8}"]
    rows = {
        name: (r, metrics[f"code_slope{end}"][name])
        for end in _ENDS
        for name, r in metrics[f"code_correlation{end}"].items()
    }
    openings = metrics["openings"] or {}
    rows |= {f"{n} opening": (v["correlation"], v["slope"]) for n, v in openings.items()}
    for name, values in rows.items():
        cells = ("-" if value is None else f"{value:.2f}" for value in values)
        lines.append(f"{name:<24}" + "".join(f"{cell:>8}" for cell in cells))
    return lines


def _joined(
    tables: tuple[np.ndarray, np.ndarray, np.ndarray | None], names: Sequence[str]
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray | None], Sequence[str]]:
    """Joins left and right in each table."""
    asked, stems = expression.join_sides(tables[0], names)
    done, _ = expression.join_sides(tables[1], names)
    stored = None if tables[2] is None else expression.join_sides(tables[2], names)[0]
    return (asked, done, stored), stems


def _correlate_stored(
    stored: np.ndarray | None, done: np.ndarray, used: np.ndarray, names: Sequence[str]
) -> dict[str, float | None] | None:
    """Correlates what was done with the capture's own codes, which know of no estimator."""
    if stored is None:
        return None
    return expression.code_correlation(stored, done, used & np.isfinite(stored).all(axis=1), names)


def _compare_openings(
    truth_px: Float[np.ndarray, "f 3"],
    render_px: Float[np.ndarray, "f 3"],
    used: Bool[np.ndarray, " f"],
) -> dict[str, dict[str, float | None]] | None:
    """Compares how far lids and lips are apart; None where the estimator knows no landmarks."""
    used = used & np.isfinite(truth_px).all(axis=1) & np.isfinite(render_px).all(axis=1)
    if not used.any():
        return None
    names = (*measures.OPENINGS, "lids")
    truth_px, render_px = (_with_both_lids(px) for px in (truth_px, render_px))
    correlation = expression.code_correlation(truth_px, render_px, used, names)
    slope = expression.code_slope(truth_px, render_px, used, names)
    means = truth_px[used].mean(axis=0), render_px[used].mean(axis=0)
    return {
        name: {
            "truth_px": float(means[0][index]),
            "render_px": float(means[1][index]),
            "correlation": correlation[name],
            "slope": slope[name],
        }
        for index, name in enumerate(names)
    }


def _with_both_lids(openings_px: Float[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 4"]:
    lids = [measures.OPENINGS.index(name) for name in ("lidLeft", "lidRight")]
    return np.column_stack([openings_px, openings_px[:, lids].mean(axis=1)])
