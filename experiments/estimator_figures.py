"""Figures of the estimator's card."""

import pathlib

import estimator_calibration as ec
import matplotlib
import numpy as np

matplotlib.use("agg")

from matplotlib import pyplot  # noqa: E402

from ganavatar_jax.faces import calibration, coefficients  # noqa: E402


def draw_coefficients(rows: list[dict], folder: pathlib.Path) -> None:
    """Draws the correlation of each coefficient: raw and calibrated, people and one person."""
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 8.5), sharey=True, layout="constrained")
    names = [row["coefficient"] for row in rows][::-1]
    place = np.arange(len(names))
    for axis, who, title in zip(
        axes, ("people", "actor"), ("across people", "within one person"), strict=True
    ):
        for offset, kind, color in ((0.2, "raw", "#b0b0b0"), (-0.2, "cal", "#1f77b4")):
            values = [row[f"{who} 64 {kind}"] for row in rows][::-1]
            known = [0.0 if v is None or np.isnan(v) else v for v in values]
            axis.barh(place + offset, known, 0.4, color=color, label=kind)
        axis.set_title(f"{title}, 64 px")
        axis.set_xlabel("correlation with the true weight")
        axis.grid(axis="x", alpha=0.3)
        axis.legend(loc="lower right")
    axes[0].set_yticks(place, names, fontsize=7)
    figure.savefig(folder / "estimator_coefficients.png", dpi=80)
    pyplot.close(figure)


def draw_jaw(faces: ec.Faces, fitted: calibration.Calibration, folder: pathlib.Path) -> None:
    """Draws readings against the truth for the two coefficients that matter most."""
    figure, axes = pyplot.subplots(2, 2, figsize=(7, 6), layout="constrained")
    code = fitted.apply(faces.readings, ec.READ_NAMES)
    for row, name in zip(axes, ("jawOpen", "eyeBlinkLeft"), strict=True):
        truth = coefficients.select(faces.truth, coefficients.ARKIT_NAMES, [name])[:, 0]
        raw = coefficients.select(faces.readings, ec.READ_NAMES, [name])[:, 0]
        calibrated = coefficients.select(code, fitted.names, [name])[:, 0]
        for axis, values, kind in zip(row, (raw, calibrated), ("raw", "calibrated"), strict=True):
            r = ec.correlations(values[:, None], truth[:, None])[0]
            axis.scatter(truth, values, s=8, alpha=0.6)
            axis.set_title(f"{name}, {kind}: r = {r:.2f}")
            axis.set_xlabel("true weight")
            axis.set_ylabel("reading")
    figure.savefig(folder / "estimator_scatter.png", dpi=80)
    pyplot.close(figure)
