"""Measures how far an avatar's renders move, and what a gain on the driver's codes does.

python experiments/driver_gain.py RUN [--gains 1 1.15 1.25 1.4]

First the spread of the estimator's readings: of real training frames near the front, and of the
run's frontal renders (task make_frontals). Then held-out frames, driven by their own codes with
`evaluation.driver_gain` at each value: PSNR of image, mouth and eyes, and the correlation of codes
with what is read back within 35 degrees, means of both sides.
"""

import argparse
import dataclasses
import json
import pathlib

import numpy as np
import script

from ganavatar_jax.apps import avatar, evaluate, experiment_config, prepare_data
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.data import frame_table
from ganavatar_jax.data.builders import expression_pairs
from ganavatar_jax.faces import coefficients, estimation, estimators
from ganavatar_jax.metrics import expression, face_regions
from ganavatar_jax.reports import evaluation_report
from ganavatar_jax.runs import run_dir

EVERY = 5  # training frames read


class Run:
    """A finished run: its avatar, its frames and its estimator."""

    def __init__(self, workdir: pathlib.Path) -> None:
        stored = json.loads((workdir / "config.json").read_text())
        self.config = config_lib.resolve(experiment_config.ExperimentConfig, stored)
        opened = run_dir.RunDir(workdir, primary=True)
        self.folder = prepare_data.dataset_folder(opened)
        self.avatar = avatar.load(self.config, opened)
        self.estimator = estimators.make_estimator(self.config.estimator)

    def read(self, images_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads images; returns the avatar's coefficients and which images had a face."""
        frames = [str(index) for index in range(len(images_u8))]
        found = estimation.estimate_many(self.estimator, images_u8, frames=frames)
        return coefficients.select(
            found.codes, self.estimator.names, self.avatar.names
        ), found.found


def near_front(label25: np.ndarray) -> np.ndarray:
    """Tells which cameras stand within 35 degrees of the front."""
    centre = label25[:, 3:12:4]
    angle = np.degrees(np.arccos(centre[:, 2] / np.linalg.norm(centre, axis=1)))
    return angle <= evaluation_report.MAX_CODE_ANGLE_DEG


def print_spreads(run: Run) -> None:
    """Prints how far real frames and renders move."""
    train = frame_table.load_split(run.folder, "train")
    rows = np.arange(0, len(train.frame_id), EVERY)
    rows = rows[near_front(train.label25[rows])]
    codes, found = run.read(train.image[rows])
    pairs = expression_pairs.load_pairs(run.folder, "train")
    rendered = coefficients.select(pairs["code"], pairs["names"], run.avatar.names)
    real, ours = codes[found].std(axis=0), rendered.std(axis=0)
    print("| | real | renders | ratio |\n|---|---|---|---|")
    for name, r, o in zip(run.avatar.names, real, ours, strict=True):
        print(f"| {name} | {r:.3f} | {o:.3f} | {r / o:.2f} |")
    print(f"| mean | {real.mean():.3f} | {ours.mean():.3f} | {np.mean(real / ours):.2f} |\n")


def print_gains(run: Run, gains: list[float]) -> None:
    """Prints what the held-out frames look like with each gain."""
    test = frame_table.load_split(run.folder, "test")
    names = run.avatar.names
    codes, have = evaluate.driving_codes(test, names, run.config)
    codes, label25, truth = codes[have], test.label25[have], test.image[have]
    frontal = near_front(label25)
    joined, stems = expression.join_sides(codes, names)
    single = tuple(n for n in names if not n.endswith(("Left", "Right")))
    print("| gain | PSNR dB | mouth, eyes PSNR | " + " | ".join(single + stems) + " |")
    print("|---|---|---|" + "---|" * len(single + stems))
    for gain in gains:
        options = dataclasses.replace(run.config.evaluation, driver_gain=gain)
        statistics = evaluate.driver_statistics(codes, options)
        shown = run.avatar.render(run.avatar.encode(codes, statistics=statistics), label25).image
        error = np.mean(np.square(shown / 255.0 - truth / 255.0), axis=(1, 2, 3))
        places = [
            float(np.nanmean(face_regions.psnr(shown, truth, label25, face_regions.REGIONS[place])))
            for place in ("mouth", "eyes")
        ]
        back, found = run.read(shown)
        used = frontal & found
        told = expression.code_correlation(codes, back, used, names)
        joined_back, _ = expression.join_sides(back, names)
        told |= expression.code_correlation(joined, joined_back, used, stems)
        cells = [f"{-10 * np.log10(error).mean():.2f}", f"{places[0]:.2f}, {places[1]:.2f}"]
        values = [told[name] for name in single + stems]
        cells += ["-" if value is None else f"{value:.2f}" for value in values]
        print(f"| {gain:g} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--gains", type=float, nargs="+", default=[1.0, 1.15, 1.25, 1.4])
    options = parser.parse_args()
    run = Run(options.run)
    print_spreads(run)
    print_gains(run, options.gains)


if __name__ == "__main__":
    script.run(main)
