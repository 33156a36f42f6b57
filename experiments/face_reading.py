"""Measures what a person's face readings tell of expressions the person really had.

python experiments/face_reading.py RUN

RUN has prepared a capture with exact codes (the synthetic actor). The shipped base's reading of
faces is fitted to other people; as it is and made blind to the camera (`face_reader.adapt`) it is
compared with the principal components of the person's own face, and with both together, which is
what a small run's latent holds. A ridge regression from the
readings of the training frames to their codes says how much of a coefficient they hold: the
correlation with the truth on the held-out frames, over all views and within 40 degrees.
"""

import argparse
import pathlib

import jax
import numpy as np
import script

from ganavatar_jax.apps import prepare_data, weights
from ganavatar_jax.core import images, portable
from ganavatar_jax.data import frame_table
from ganavatar_jax.geometry import cameras
from ganavatar_jax.models import face_reader
from ganavatar_jax.runs import run_dir

BASE = "synthetic-heads-64"
OWN = 16
SHOWN = {
    "jawOpen": ("jawOpen",),
    "eyeBlink": ("eyeBlinkLeft", "eyeBlinkRight"),
    "mouthSmile": ("mouthSmileLeft", "mouthSmileRight"),
    "browDown": ("browDownLeft", "browDownRight"),
    "browInnerUp": ("browInnerUp",),
    "mouthPucker": ("mouthPucker",),
}
FRONTAL_DEG = 40.0
RIDGE = 30.0  # for standardised readings


def read(reader: face_reader.Reader, table: frame_table.FrameTable) -> np.ndarray:
    """Returns the readings of all frames of a split."""
    look = jax.jit(lambda i, c: face_reader.read(reader, images.from_u8(i), c))
    return np.asarray(look(table.image[:], table.label25), np.float64)


def predict(readings: np.ndarray, target: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Fits a ridge regression and applies it to other readings."""
    mean, spread = readings.mean(axis=0), readings.std(axis=0)
    readings, others = (readings - mean) / spread, (others - mean) / spread
    gram = readings.T @ readings + RIDGE * np.eye(readings.shape[1])
    return others @ np.linalg.solve(gram, readings.T @ (target - target.mean()))


def codes_of(table: frame_table.FrameTable, names: tuple[str, ...]) -> np.ndarray:
    """Returns the mean of these coefficients of every frame."""
    if table.expression is None:
        raise SystemExit("expected a capture with codes; got none.")
    columns = [table.expression_names.index(name) for name in names]
    return table.expression[:, columns].mean(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=pathlib.Path)
    folder = prepare_data.dataset_folder(run_dir.RunDir(parser.parse_args().run, primary=True))
    train, test = (frame_table.load_split(folder, split) for split in ("train", "test"))
    stored, _ = portable.load_params(weights.locate(BASE) / weights.ENCODER)
    shipped = {k: np.asarray(v, np.float32) for k, v in stored["buffers"]["reader"].items()}
    size = shipped["weight"].shape[1]
    blind = face_reader.adapt(shipped, train.image, train.label25, size=size)
    both = face_reader.extend(blind, train.image, train.label25, size=OWN)
    readers = {"as it is": (shipped, slice(None)), "blind": (both, slice(size))}
    readers |= {f"own, {OWN}": (both, slice(size, None)), "blind and own": (both, slice(None))}
    parts = {
        name: tuple(read(reader, table)[:, part] for table in (train, test))
        for name, (reader, part) in readers.items()
    }
    yaw, _ = cameras.yaw_pitch_deg(cameras.from_label25(test.label25).cam2world)
    frontal = np.abs(np.asarray(yaw)) < FRONTAL_DEG
    print("| all views, within 40 degrees | " + " | ".join(parts) + " |")
    print("|---|" + "---|" * len(parts))
    for shown, names in SHOWN.items():
        target, truth = codes_of(train, names), codes_of(test, names)
        cells = []
        for of_train, of_test in parts.values():
            told = predict(of_train, target, of_test)
            values = [np.corrcoef(told[rows], truth[rows])[0, 1] for rows in (..., frontal)]
            cells.append(", ".join(f"{value:.2f}" for value in values))
        print(f"| {shown} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    script.run(main)
