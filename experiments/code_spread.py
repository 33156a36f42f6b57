"""Measures how much the expressions of a run's avatar differ: no expressions, no obedience.

python experiments/code_spread.py RUN [RUN ...]

Each run's first 256 frontal renders (task make_frontals) have been read by the estimator; the
spread (standard deviation) of every coefficient over them is printed, one column a run. A
generator that has collapsed into a few expressions has a small one.
"""

import argparse
import pathlib

import numpy as np
import script

from ganavatar_jax.apps import prepare_data
from ganavatar_jax.data.builders import expression_pairs
from ganavatar_jax.runs import run_dir

LATENTS = 256


def read_spreads(workdir: pathlib.Path) -> dict[str, float]:
    """Returns the spread of each calibrated coefficient."""
    folder = prepare_data.dataset_folder(run_dir.RunDir(workdir, primary=True))
    pairs = expression_pairs.load_pairs(folder, "train")
    codes = pairs["code"]
    if len(codes) < LATENTS:
        raise SystemExit(f"{workdir}: expected {LATENTS} pairs or more; got {len(codes)}.")
    return dict(zip(pairs["names"], codes[:LATENTS].std(axis=0).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", type=pathlib.Path, nargs="+")
    runs = parser.parse_args().runs
    spreads = [read_spreads(run) for run in runs]
    names = list(spreads[0])
    if any(list(spread) != names for spread in spreads):
        raise SystemExit("the runs' codes have different coefficients; nothing to compare.")
    print("| | " + " | ".join(run.name for run in runs) + " |")
    print("|---|" + "---|" * len(runs))
    for name in names:
        print(f"| {name} | " + " | ".join(f"{spread[name]:.3f}" for spread in spreads) + " |")
    means = [np.mean(list(spread.values())) for spread in spreads]
    print("| mean | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")


if __name__ == "__main__":
    script.run(main)
