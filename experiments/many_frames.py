"""Measures what a capture of very many frames takes to train on: memory, and frames a second.

python experiments/many_frames.py FOLDER --count 100000 --side 64

Makes a dataset in FOLDER, unless one is there, whose frames repeat those of the shipped actor, and
serves it in a new process each: from memory, and from disk as `data.cache_limit_mb` is 64. Printed
are the peak of the process's memory over what its imports take, the time to open the split, frames
a second over batches of 32, and memory and time of what looks at many frames: the mean image, and
a reading of faces fitted to frames (encoder.settle, 16 numbers).
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np

from ganavatar_jax.data import data_config, frame_table, records
from ganavatar_jax.data.builders import gan_frames, storage
from ganavatar_jax.metrics import baselines
from ganavatar_jax.models import encoder, encoder_config

BATCHES, BATCH = 400, 32
FACES = encoder_config.EncoderConfig(face_dim=16)


def peak_mb() -> float:
    """Returns the most memory this process has held, MB (Linux)."""
    status = pathlib.Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) / 2**10


def make(folder: pathlib.Path, count: int, side: int) -> None:
    """Writes the dataset."""
    config = data_config.DataConfig(source="package:actor", resolution=side)
    with gan_frames.open_source(config) as capture:
        shown = [frame.load() for frame in capture.frames]

    def reference(index: int) -> records.FrameReference:
        frame = shown[index % len(shown)]
        image = np.asarray(gan_frames.canonicalize.resize(frame.image, side=side, resample="box"))
        return records.FrameReference(
            frame.label25, None, f"{index:06d}", "", None, (side, side), lambda: (image, None)
        )

    metadata = {"expression_names": [], "resolution": side, "has_alpha": False}
    arguments = {
        "frames": {"train": [reference(index) for index in range(count)]},
        "canonical": lambda frame: frame.load(),
        "metadata": {**metadata, "background": "white"},
    }
    start, began = peak_mb(), time.monotonic()
    storage.write(gan_frames.GanFrames, folder, arguments=arguments)
    took = time.monotonic() - began
    print(f"written: {took:.0f} s, {peak_mb() - start:.0f} MB more", flush=True)


def measure(folder: pathlib.Path, limit_mb: int) -> dict[str, float]:
    """Opens the split, trains on nothing but its batches, and looks at its frames."""
    start, began = peak_mb(), time.monotonic()
    table = frame_table.load_split(folder, "train", cache_limit_mb=limit_mb)
    found = {"open_s": time.monotonic() - began, "open_mb": peak_mb() - start}
    batches = frame_table.make_batches(table, batch_size=BATCH, seed=0, mirror=True)
    next(batches)
    began = time.monotonic()
    for _ in range(BATCHES):
        next(batches)
    found["frames_per_s"] = BATCHES * BATCH / (time.monotonic() - began)
    found["batches_mb"] = peak_mb() - start
    batches.close()
    began = time.monotonic()
    baselines.mean_image(table.image)
    found |= {"mean_s": time.monotonic() - began, "mean_mb": peak_mb() - start}
    fresh = encoder.init(jax.random.key(0), FACES, resolution=table.image.shape[1], z_dim=32)
    began = time.monotonic()
    encoder.settle(fresh, FACES, table.image, table.label25, z_dim=32)
    return found | {"settle_s": time.monotonic() - began, "settle_mb": peak_mb() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--limit", type=int, help="measure this process with this limit, MB")
    options = parser.parse_args()
    if options.limit is not None:
        print(json.dumps(measure(options.folder, options.limit)))
        return
    if not storage.is_finished(options.folder, gan_frames.GanFrames):
        make(options.folder, options.count, options.side)
    whole_mb = 3 * options.count * options.side**2 / 2**20
    for name, limit_mb in (("in memory", round(whole_mb) + 1), ("on disk", 64)):
        arguments = [sys.executable, __file__, str(options.folder), f"--limit={limit_mb}"]
        done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
        numbers = json.loads(done.stdout.splitlines()[-1])
        shown = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
        print(f"{name} ({whole_mb:.0f} MB decoded): {shown}", flush=True)


if __name__ == "__main__":
    main()
