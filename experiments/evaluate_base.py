"""Measures and draws a base generator.

python experiments/evaluate_base.py RUN DST

RUN is a finished run of experiments/base_generator.py. Held-out people are compared with random
heads seen from the same cameras (Frechet distance of pooled AlexNet features, not FID; the same
distance between held-out people and training people seen from the nearest cameras says what a
perfect generator could reach), and with their own reconstruction. Pictures: random heads from
four sides, walks between two of them, and one head whose first expression entries move.
"""

import argparse
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import script

from ganavatar_jax.apps import experiment_config, prepare_data, train_gan, weights
from ganavatar_jax.core import chunks, images
from ganavatar_jax.core import config as config_lib
from ganavatar_jax.data import frame_table
from ganavatar_jax.geometry import cameras, ffhq_camera
from ganavatar_jax.metrics import frechet, lpips, per_frame
from ganavatar_jax.models import encoder, face_reader, generator
from ganavatar_jax.reports import media
from ganavatar_jax.runs import run_dir

COLUMNS = 8
YAWS_DEG = (0.0, -45.0, 90.0, 180.0)
FRONTAL_DEG = 40.0
SHOWN = ("jawOpen", "eyeBlinkLeft", "mouthSmileLeft", "browInnerUp", "browDownLeft", "mouthPucker")


class Base:
    """A trained base: latents to images, images to latents."""

    def __init__(self, workdir: pathlib.Path) -> None:
        stored = json.loads((workdir / "config.json").read_text())
        self.config = config_lib.resolve(experiment_config.ExperimentConfig, stored)
        self.opened = run_dir.RunDir(workdir, primary=True)
        e_config = self.config.gan.reconstruction.encoder
        start = weights.load_start(
            str(train_gan.export_folder(self.opened)),
            self.config.generator,
            self.config.discriminator,
            e=e_config,
        )
        if start.e is None:
            raise SystemExit(f"{workdir}: expected a run with an encoder; got none.")
        self.g, self.e = start.g, start.e

    @functools.cached_property
    def _draw(self) -> Any:
        config = self.config.generator

        @jax.jit
        def draw(g: Any, z: jax.Array, label25: jax.Array) -> jax.Array:
            ws = generator.broadcast(generator.map_latent(g, z, label25, config), config)
            return generator.synthesize(g, ws, label25, config).image

        return draw

    def render(self, z: np.ndarray, label25: np.ndarray) -> np.ndarray:
        """Renders latents [f z] from cameras [f 25] to uint8 images."""
        arrays = np.asarray(z, np.float32), np.asarray(label25, np.float32)
        drawn = chunks.map_in_chunks(lambda a: self._draw(self.g, *a), arrays, chunk=8)
        return images.to_u8(drawn)

    def encode(self, image_u8: np.ndarray, label25: np.ndarray) -> np.ndarray:
        """Encodes images to latents."""
        config, z_dim = self.config.gan.reconstruction.encoder, self.config.generator.z_dim

        @jax.jit
        def look(e: Any, i: jax.Array, c: jax.Array) -> jax.Array:
            return encoder.apply(e, images.from_u8(i), c, config, z_dim=z_dim)

        return chunks.map_in_chunks(lambda a: look(self.e, *a), (image_u8, label25), chunk=32)

    def read(self, image_u8: np.ndarray, label25: np.ndarray) -> np.ndarray:
        """Reads expression entries off faces."""
        reader = self.e["buffers"]["reader"]
        look = jax.jit(lambda i, c: face_reader.read(reader, images.from_u8(i), c))
        return chunks.map_in_chunks(lambda a: look(*a), (image_u8, label25), chunk=32)


def view(yaw_deg: float) -> np.ndarray:
    """Makes a camera around the head."""
    pose = cameras.look_at(jnp.pi / 2 - jnp.deg2rad(yaw_deg), jnp.pi / 2, radius=ffhq_camera.RADIUS)
    return np.asarray(
        cameras.to_label25(cameras.Camera(pose, cameras.intrinsics(ffhq_camera.FOCAL)))
    )


def measure(
    base: Base, train: frame_table.FrameTable, test: frame_table.FrameTable
) -> dict[str, Any]:
    """Measures the base on held-out people."""
    alex = lpips.load_params("alex")
    count = len(test.image)
    z = np.random.default_rng(0).normal(size=(count, base.config.generator.z_dim))
    held_out = frechet.from_images(alex, test.image)
    drawn = frechet.from_images(alex, base.render(z, test.label25))
    floor = frechet.from_images(alex, train.image[nearest_cameras(train.label25, test.label25)])
    rebuilt = base.render(base.encode(test.image, test.label25), test.label25)
    compared = per_frame.compare(test.image, {"rebuilt": rebuilt}, {"alex": alex})["rebuilt"]
    return {
        "people_held_out": count,
        "alexnet_frechet_distance": frechet.alexnet_frechet_distance(held_out, drawn),
        "alexnet_frechet_distance_of_training_people": frechet.alexnet_frechet_distance(
            held_out, floor
        ),
        "reconstruction": {name: float(values.mean()) for name, values in compared.items()},
        "reading_correlation": correlate(base, train, test),
    }


def nearest_cameras(label25: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Finds for each wanted camera the nearest other one, each at most once."""
    centres, free = label25[:, 3:12:4], np.ones(len(label25), bool)
    chosen = []
    for centre in wanted[:, 3:12:4]:
        apart = np.where(free, np.linalg.norm(centres - centre, axis=1), np.inf)
        chosen.append(int(apart.argmin()))
        free[chosen[-1]] = False
    return np.array(chosen)


def correlate(
    base: Base, train: frame_table.FrameTable, test: frame_table.FrameTable
) -> dict[str, Any]:
    """Correlates what the readings say of the codes with the truth, on near-frontal people."""
    parts = []
    for table in (train, test):
        distance = np.linalg.norm(table.label25[:, 3:12:4], axis=1)
        seen = table.label25[:, 11] > np.cos(np.radians(FRONTAL_DEG)) * distance
        numbers = base.read(table.image[seen], table.label25[seen])
        assert table.expression is not None
        parts.append((np.column_stack([numbers, np.ones(len(numbers))]), table.expression[seen]))
    (x, y), (x_test, y_test) = parts
    told = x_test @ np.linalg.lstsq(x, y, rcond=None)[0]
    index = {name: i for i, name in enumerate(test.expression_names)}
    return {n: float(np.corrcoef(told[:, index[n]], y_test[:, index[n]])[0, 1]) for n in SHOWN}


def draw(base: Base, dst: pathlib.Path) -> None:
    """Draws random heads, walks and moving expressions."""
    z = np.random.default_rng(1).normal(size=(COLUMNS, base.config.generator.z_dim))
    rows = [base.render(z, np.repeat(view(yaw)[None], COLUMNS, axis=0)) for yaw in YAWS_DEG]
    grid = images.make_grid(np.concatenate(rows), columns=COLUMNS, padding_px=2)
    media.save_png(dst / "base_samples.png", media.upscale(grid, min_side_px=512))
    steps = np.linspace(0.0, 0.5 * np.pi, COLUMNS)[:, None]
    frontal = np.repeat(view(0.0)[None], COLUMNS, axis=0)
    walks = [
        base.render(np.cos(steps) * z[i] + np.sin(steps) * z[i + 1], frontal) for i in range(4)
    ]
    grid = images.make_grid(np.concatenate(walks), columns=COLUMNS, padding_px=2)
    media.save_png(dst / "base_walk.png", media.upscale(grid, min_side_px=512))
    pushed = []
    for entry in range(4):
        moved = np.repeat(z[:1], COLUMNS, axis=0)
        moved[:, : base.config.gan.reconstruction.encoder.face_dim] = 0.0
        moved[:, entry] = np.linspace(-3.0, 3.0, COLUMNS)
        pushed.append(base.render(moved, frontal))
    grid = images.make_grid(np.concatenate(pushed), columns=COLUMNS, padding_px=2)
    media.save_png(dst / "base_expressions.png", media.upscale(grid, min_side_px=512))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("dst", type=pathlib.Path)
    options = parser.parse_args()
    options.dst.mkdir(parents=True, exist_ok=True)
    base = Base(options.run)
    draw(base, options.dst)
    folder = prepare_data.dataset_folder(base.opened)
    train, test = frame_table.load_split(folder, "train"), frame_table.load_split(folder, "test")
    numbers = json.dumps(measure(base, train, test), indent=2)
    (options.dst / "base.json").write_text(numbers + "\n")
    print(numbers)


if __name__ == "__main__":
    script.run(main)
