"""Run folders, cameras and frames for tests of the later stages, without a capture or training."""

import dataclasses
import types
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.apps import completeness, experiment, experiment_config
from ganavatar_jax.core import presets
from ganavatar_jax.data import frame_table
from ganavatar_jax.faces import estimation
from ganavatar_jax.geometry import cameras
from helpers import tiny_gan


def resolve(**sections: dict) -> experiment_config.ExperimentConfig:
    """Resolves the smoke preset for the tiny generator, with changes by section."""
    config = presets.smoke(presets.full())
    for name, values in sections.items():
        config[name].update(values)
    resolved = experiment.resolve(config)
    return dataclasses.replace(
        resolved,
        data=dataclasses.replace(resolved.data, resolution=tiny_gan.SIDE),
        generator=tiny_gan.GENERATOR,
        discriminator=tiny_gan.DISCRIMINATOR,
    )


def without_earlier_stages(monkeypatch: pytest.MonkeyPatch, stage: types.ModuleType) -> None:
    """Lets a stage begin in a folder that has none of those before it."""
    begun = completeness.Begun(stage.STAGE, {}, {})
    monkeypatch.setattr(stage.completeness, "begin", lambda *_: begun)


def labels(yaw: np.ndarray, *, radius: float = 2.7, lens: np.ndarray | None = None) -> np.ndarray:
    """Cameras on a circle around the head; `yaw` in radians."""
    if lens is None:
        lens = np.asarray(cameras.intrinsics(4.2647))
    level = np.full(len(yaw), np.pi / 2)
    poses = cameras.look_at(np.pi / 2 + np.asarray(yaw), level, radius=radius)
    lenses = jnp.asarray(np.broadcast_to(lens, (len(yaw), 3, 3)), jnp.float32)
    return np.asarray(cameras.to_label25(cameras.Camera(poses, lenses)))


def make_table(
    image: np.ndarray,
    label25: np.ndarray,
    *,
    codes: np.ndarray | None = None,
    names: tuple[str, ...] = (),
    has: np.ndarray | None = None,
) -> frame_table.FrameTable:
    """Frames in memory, as the prepared dataset gives them."""
    count = len(image)
    has = np.full(count, codes is not None) if has is None else has
    return frame_table.FrameTable(
        image=image,
        alpha=None,
        label25=label25,
        expression=codes,
        has_expression=has,
        frame_id=tuple(f"{i:03d}" for i in range(count)),
        sequence=("a",) * count,
        expression_names=names,
        background="white",
    )


class FakeEstimator:
    """Reads whatever a function says; None where it finds no face. Keeps the frames' names."""

    def __init__(
        self, names: tuple[str, ...], read: Callable[[np.ndarray, str], np.ndarray | None]
    ):
        self.names = names
        self.asked: list[str] = []
        self._read = read

    def estimate(
        self, image_u8: np.ndarray, *, frame: str | None = None
    ) -> estimation.Reading | None:
        """Reads one image."""
        assert frame is not None
        self.asked.append(frame)
        code = self._read(image_u8, frame)
        return None if code is None else estimation.Reading(np.float32(code), 0.9, None)
