"""A page of an avatar that was never trained, in a run folder with pairs."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from ganavatar_jax.apps import avatar, export_web
from ganavatar_jax.data.builders import expression_pairs
from ganavatar_jax.runs import run_dir
from helpers import tiny_gan, tiny_runs

NAMES = ("jawOpen", "eyeBlinkLeft")
CODES = np.random.default_rng(0).uniform(size=(40, 2)).astype(np.float32)


def make_person(**render: Any) -> avatar.Avatar:
    """An avatar whose field is not empty, with other options of the renderer."""
    person = tiny_gan.make_avatar(CODES, NAMES)
    config = dataclasses.replace(
        person.g_config, render=dataclasses.replace(person.g_config.render, **render)
    )
    decoder = person.g["params"]["decoder"]["net"]
    bias = decoder["2"]["bias"].at[0].add(3.0)  # an untrained field is a fog: make it a denser one
    second = {**decoder["2"], "bias": bias}
    params = {**person.g["params"], "decoder": {"net": {**decoder, "2": second}}}
    return dataclasses.replace(person, g={**person.g, "params": params}, g_config=config)


def write_pairs(folder: pathlib.Path, *, w_dim: int = tiny_gan.GENERATOR.w_dim) -> None:
    """Stores pairs with CODES."""

    def pairs(codes: np.ndarray) -> dict[str, np.ndarray]:
        count = len(codes)
        return {
            "image": np.zeros((count, 8, 8, 3), np.uint8),
            "w": np.zeros((count, w_dim), np.float32),
            "code": codes,
            "confidence": np.ones(count, np.float32),
            "seed": np.arange(count),
        }

    expression_pairs.write_pairs(
        folder / "dataset", pairs(CODES[:32]), pairs(CODES[32:]), names=NAMES, metadata={}
    )


def export(folder: pathlib.Path, person: avatar.Avatar, **options: Any) -> str:
    """Exports a page; returns its content."""
    write_pairs(folder)
    resolved = tiny_runs.resolve(export_web={"components": 6, "full_px": 16} | options)
    return export_web.export(person, resolved, run_dir.RunDir(folder)).read_text()
