"""Measures what a run's latents tell of the camera, and what that costs once codes drive it.

python experiments/camera_in_latents.py RUN [RUN ...]

First, how much of the variance of the training frames' latents a polynomial of the camera's
direction (third degree) explains: of the entries read by the start's reading of faces, of the
person's own components, and of w. Then the PSNR of renders from their own cameras: training frames
(every eighth) and held-out frames from their own latents, held-out frames from the mean w and from
their codes. A generator whose latents tell the camera is good at the first and poor at the last.
"""

import argparse
import itertools
import pathlib

import finished_run
import jax
import numpy as np
import script

from ganavatar_jax.apps import evaluate, restating, train_gan, weights
from ganavatar_jax.core import images
from ganavatar_jax.data import frame_table
from ganavatar_jax.models import encoder, face_reader, generator
from ganavatar_jax.runs import run_dir

EVERY = 8  # training frames rendered
ANGLES = (0, 20, 45, 180)  # from the front, degrees
CHUNK = 128


def latents(
    run: finished_run.Run, workdir: pathlib.Path, table: frame_table.FrameTable
) -> tuple[np.ndarray, np.ndarray]:
    """Returns z and w of frames, as training sees them without noise."""
    g_config, config = run.config.generator, run.config.gan.reconstruction.encoder
    exported = train_gan.export_folder(run_dir.RunDir(workdir, primary=True))
    e = weights.load_network(exported / weights.ENCODER, weights.abstract_encoder(config, g_config))

    @jax.jit
    def look(e: dict, g: dict, image_u8: jax.Array, label25: jax.Array) -> tuple:
        image = images.from_u8(image_u8)
        z = encoder.apply(e, image, label25, config, z_dim=g_config.z_dim)
        return z, generator.map_latent(g, z, label25, g_config)

    parts = [
        look(e, dict(run.avatar.g), table.image[i : i + CHUNK], table.label25[i : i + CHUNK])
        for i in range(0, len(table.image), CHUNK)
    ]
    z, w = (np.concatenate([np.asarray(p[k], np.float64) for p in parts]) for k in (0, 1))
    return z, w


def told_by_camera(values: np.ndarray, label25: np.ndarray) -> float:
    """Returns the share of the variance that the camera's direction explains."""
    terms = np.column_stack([np.ones(len(label25)), face_reader.camera_terms(label25)])
    rest = values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
    return 1.0 - float(rest.var(axis=0).sum() / values.var(axis=0).sum())


def print_psnr(title: str, run: finished_run.Run, w: np.ndarray, table: tuple) -> None:
    """Prints the PSNR of renders: of all frames, and by angle from the front."""
    truth, label25 = table
    shown = run.avatar.render(w.astype(np.float32), label25).image
    psnr = -10 * np.log10(np.mean(np.square((shown - truth.astype(np.float64)) / 255), (1, 2, 3)))
    centre = label25[:, 3:12:4]
    angle = np.degrees(np.arccos(centre[:, 2] / np.linalg.norm(centre, axis=1)))
    cells = [f"{psnr.mean():.2f}"]
    for low, high in itertools.pairwise(ANGLES):
        rows = (angle >= low) & (angle < high)
        cells.append(f"{psnr[rows].mean():.2f}" if rows.any() else "-")
    print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", type=pathlib.Path, nargs="+")
    for workdir in parser.parse_args().runs:
        run = finished_run.Run(workdir)
        train, test = (frame_table.load_split(run.folder, split) for split in ("train", "test"))
        (z, w), (_, test_w) = (latents(run, workdir, table) for table in (train, test))
        split = run.config.gan.reconstruction.encoder.face_dim
        parts = {"first entries": z[:, :split], "the others": z[:, split:], "w": w}
        told = [f"{name} {told_by_camera(v, train.label25):.2f}" for name, v in parts.items()]
        print(f"{workdir.name}: told by the camera: " + ", ".join(told) + "\n")
        bins = [f"{low} to {high} degrees" for low, high in itertools.pairwise(ANGLES)]
        print("| PSNR dB | all | " + " | ".join(bins) + " |\n|---|---|" + "---|" * len(bins))
        rows = np.arange(0, len(w), EVERY)
        held_out = test.image[:], test.label25
        print_psnr(
            "training frames, own latents", run, w[rows], (train.image[rows], train.label25[rows])
        )
        print_psnr("held out, own latents", run, test_w, held_out)
        print_psnr(
            "held out, mean w", run, np.repeat(w.mean(axis=0)[None], len(test_w), 0), held_out
        )
        codes, have = evaluate.driving_codes(test, run.avatar.names, run.config)
        codes = restating.restate(
            codes[have],
            run.avatar,
            run.config,
            read=run.config.evaluation.codes == "estimate",
            label25=test.label25[have],
        )
        driven = run.avatar.encode(codes)
        print_psnr("held out, codes", run, driven, (test.image[have], test.label25[have]))
        print()


if __name__ == "__main__":
    script.run(main)
