"""Fits the table of what the default estimator reads off faces of known ARKit weights.

python experiments/weight_table.py CAPTURE [CAPTURE ...] [--frames 600]

CAPTUREs are captures of rendered people (one frame or a few of each) with exact weights. Frames
within 35 degrees of the front are shrunk to 64 pixels and read as runs read them; for each
coefficient of the calibrated code the slope of the least-squares line of reading over weight,
both sides of the face together, goes into ganavatar_jax/assets/weight_table.json.
"""

import argparse
import json
import pathlib

import numpy as np
import script
from PIL import Image

from ganavatar_jax.core import files
from ganavatar_jax.data.formats import eg3d
from ganavatar_jax.faces import coefficients, estimation, estimator_config, estimators, weight_table
from ganavatar_jax.geometry import cameras
from ganavatar_jax.reports import obedience

PX = 64
ASSET = pathlib.Path(__file__).parents[1] / "ganavatar_jax" / "assets" / "weight_table.json"


def read_people(path: pathlib.Path, count: int) -> tuple[estimation.Readings, np.ndarray]:
    """Reads frames near the front; returns the readings and the weights of all ARKit names."""
    with eg3d.open_capture(path) as capture:
        labels = np.stack([frame.label25 for frame in capture.frames])
        yaw, pitch = cameras.yaw_pitch_deg(cameras.from_label25(labels).cam2world)
        near = np.hypot(np.asarray(yaw), np.asarray(pitch)) <= obedience.MAX_CODE_ANGLE_DEG
        coded = np.array([frame.expression is not None for frame in capture.frames])
        rows = np.flatnonzero(near & coded)
        rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
        frames = [capture.frames[row] for row in rows]
        pictures = (
            np.asarray(
                Image.fromarray(f.read_pixels()[0]).resize((PX, PX), Image.Resampling.LANCZOS)
            )
            for f in frames
        )
        estimator = estimators.make_estimator(estimator_config.EstimatorConfig())
        readings = estimation.estimate_many(estimator, pictures)
        codes = np.stack([frame.expression for frame in frames])
        weights = coefficients.select(codes, capture.expression_names, coefficients.ARKIT_NAMES)
    return readings, weights


def fit(readings: np.ndarray, weights: np.ndarray) -> float:
    """Returns the slope of the least-squares line."""
    return float(np.polyfit(weights, readings, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("captures", type=pathlib.Path, nargs="+")
    parser.add_argument("--frames", type=int, default=600, help="of each capture")
    options = parser.parse_args()
    parts = [read_people(path, options.frames) for path in options.captures]
    codes = np.concatenate([readings.codes[readings.found] for readings, _ in parts])
    weights = np.concatenate([w[readings.found] for readings, w in parts])
    names = estimators.make_estimator(estimator_config.EstimatorConfig()).names
    slopes = {}
    for name in names:
        both = [name, coefficients.other_side(name)]
        read = [codes[:, names.index(n)] for n in both]
        true = [weights[:, coefficients.ARKIT_NAMES.index(n)] for n in both]
        slopes[name] = round(fit(np.concatenate(read), np.concatenate(true)), 3)
        print(f"{name:<24}{slopes[name]:8.3f}{np.corrcoef(read[0], true[0])[0, 1]:8.2f}")
    provenance = {
        "data": [path.name for path in options.captures],
        "frames": len(codes),
        "within_deg": obedience.MAX_CODE_ANGLE_DEG,
        "pixels": PX,
        "estimator": list(weight_table.ESTIMATOR),
    }
    content = {"format": weight_table.FORMAT, "provenance": provenance, "slopes": slopes}
    files.write_atomic(ASSET, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    script.run(main)
