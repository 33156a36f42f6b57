"""Runs one recipe over several people and prints one table: a default has to hold for all of them.

python experiments/people.py --out FOLDER --capture actor=package:actor [--capture NAME=SOURCE ...]
    [--config configs/quickstart.py] [--blocks] [--seeds 0 1 2] [-- --config.KEY=VALUE ...]

Each capture gets a run folder FOLDER/NAME, in which the same command goes on where it stopped.
Defaults are chosen with --blocks: then frames that the capture holds out take no part, and blocks
of the rest are held out instead (data.split.policy "blocks"); such runs belong in a FOLDER of their
own. With several --seeds the mapping is trained and evaluated once a seed; the last one stays in
the run folder, the metrics of all in FOLDER/NAME/seeds.

A source that ends in .mp4 or .mov is taken for a bare film. What follows -- goes to every run.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import script

COLUMNS = (
    ("jaw", "code_correlation", "code_slope", "jawOpen"),
    ("blink", "code_correlation_both_sides", "code_slope_both_sides", "eyeBlink"),
    ("smile", "code_correlation_both_sides", "code_slope_both_sides", "mouthSmile"),
    ("brow", "code_correlation_both_sides", "code_slope_both_sides", "browDown"),
)
OPENINGS = ("lids", "mouth")
FILMS = (".mp4", ".mov")


def run_stage(options: argparse.Namespace, name: str, source: str, *extra: str) -> None:
    """Runs the command on one capture, all stages unless told otherwise."""
    command = [
        *(sys.executable, "-m", "ganavatar_jax.main"),
        f"--config={options.config}",
        f"--workdir={options.out / name}",
        f"--config.data.source={source}",
        *(["--config.data.format=video"] if source.endswith(FILMS) else []),
        *(["--config.data.split.policy=blocks"] if options.blocks else []),
        *options.override,
        *extra,
    ]
    subprocess.run(command, check=True)


def evaluate_seeds(options: argparse.Namespace, name: str, source: str) -> list[pathlib.Path]:
    """Runs a capture with every seed of the mapping; returns the metrics of each."""
    folder = options.out / name / "seeds"
    found = []
    for seed in options.seeds:
        path = folder / f"{seed}.json"
        if not path.is_file():
            run_stage(options, name, source, f"--config.mapping.seed={seed}")
            folder.mkdir(exist_ok=True)
            shutil.copy(options.out / name / "evaluation" / "metrics.json", path)
        found.append(path)
    return found


def cell(value: float | None, digits: int = 2) -> str:
    """Writes a number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def make_row(title: str, metrics: dict[str, Any]) -> str:
    """Writes one run's numbers: images, then r and slope of codes and openings."""
    cells = [title]
    for part in (metrics, metrics["head"]):
        for candidate in ("ours", "nearest_frame"):
            values = (part or {}).get(candidate, {})
            cells.append(f"{cell(values.get('psnr'))} / {cell(values.get('lpips_alex'), 4)}")
    for _, correlation, slope, key in COLUMNS:
        pair = ((metrics[measure] or {}).get(key) for measure in (correlation, slope))
        cells.append(", ".join(map(cell, pair)))
    for name in OPENINGS:
        opening = (metrics["openings"] or {}).get(name, {})
        cells.append(", ".join(cell(opening.get(key)) for key in ("correlation", "slope")))
    return "| " + " | ".join(cells) + " |"


def print_table(rows: list[str]) -> None:
    """Prints all runs under one heading."""
    images = ("PSNR / LPIPS", "nearest frame", "head", "head, nearest")
    titles = ["capture, seed", *images, *(f"{c[0]} r, slope" for c in COLUMNS)]
    titles += [f"{name} opening" for name in OPENINGS]
    print("| " + " | ".join(titles) + " |\n|" + "---|" * len(titles))
    print("\n".join(rows), flush=True)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--capture", action="append", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--config", default="configs/quickstart.py")
    parser.add_argument("--blocks", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("override", nargs="*", metavar="--config.KEY=VALUE")
    options = parser.parse_args()
    for capture in options.capture:
        if "=" not in capture:
            parser.error(f"--capture {capture}: expected NAME=SOURCE.")
    return options


def main() -> None:
    options = parse_arguments()
    rows = []
    for capture in options.capture:
        name, source = capture.split("=", 1)
        for path in evaluate_seeds(options, name, source):
            rows.append(make_row(f"{name}, {path.stem}", json.loads(path.read_text())))
    print_table(rows)


if __name__ == "__main__":
    script.run(main)
