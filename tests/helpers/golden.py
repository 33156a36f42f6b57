"""Loads golden networks: options from the json, tensors from the npz, weights from either form.

The full form has the original's own snapshots (.pkl), the small one (tests/golden, made by
make_small_golden.py) arrays under our names, and leaves out what would make it large.
"""

import contextlib
import dataclasses
import fcntl
import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganavatar_jax.core import trees
from ganavatar_jax.models import discriminator, discriminator_config, generator, generator_config
from ganavatar_jax.rendering import render_config
from helpers import compare
from weight_port import names_eg3d, torch_pickle

_KINDS = {"SuperresolutionHybrid8XDC": "8XDC", "SuperresolutionHybrid2X": "2X"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One golden network."""

    name: str
    config: generator_config.GeneratorConfig
    d_config: discriminator_config.DiscriminatorConfig
    g: dict[str, Any]
    d: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def need(self, *names: str) -> None:
        """Skips the test where the small form leaves out what it compares."""
        missing = [name for name in names if name not in self.arrays]
        if missing:
            pytest.skip(f"the small golden files of {self.name} leave out {', '.join(missing)}")


def load(folder: pathlib.Path, name: str) -> Case:
    """Loads a case, or skips the test where its files are missing."""
    options_path = folder / f"{name}.json"
    if not options_path.is_file():
        pytest.skip(f"no golden files of {name}")
    options = json.loads(options_path.read_text())
    with np.load(folder / f"{name}.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    config, d_config = _generator_config(options), _discriminator_config(options)
    # ganavatar512_box shares eg3d_ffhq512's weights but for what its npz overrides.
    source = folder / ("eg3d_ffhq512" if name == "ganavatar512_box" else name)
    snapshot = source.with_suffix(".pkl")
    g, d = read_snapshot(snapshot) if snapshot.is_file() else _read_small(source, config, d_config)
    flat = dict(trees.flatten_names(g))
    for key in [k for k in arrays if k.startswith("override.")]:
        value = arrays[key]
        flat[f"params.{key.removeprefix('override.')}"] = value.T if value.ndim == 2 else value
    g, d = jax.tree.map(jnp.asarray, (trees.unflatten_names(flat), d))
    return Case(name, config, d_config, g, d, arrays)


def read_snapshot(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads G_ema and D of a snapshot, under our names."""
    snapshot = torch_pickle.read_snapshot(path)
    g = names_eg3d.import_generator(snapshot["G_ema"]).variables
    return g, names_eg3d.import_discriminator(snapshot["D"]).variables


def _read_small(
    source: pathlib.Path,
    config: generator_config.GeneratorConfig,
    d_config: discriminator_config.DiscriminatorConfig,
) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(source.with_name(f"{source.name}_weights.npz")) as archive:
        found = {key: archive[key] for key in archive.files}
    key = jax.random.key(0)
    expected = {
        "g": jax.eval_shape(lambda k: generator.init(k, config), key),
        "d": jax.eval_shape(lambda k: discriminator.init(k, d_config), key),
    }
    flat = {
        name: found.pop(name) if name in found else np.full(leaf.shape, np.nan, leaf.dtype)
        for name, leaf in trees.flatten_names(expected)
    }
    assert not found, f"{source.name}: unexpected weights {sorted(found)[:4]}"
    variables = trees.unflatten_names(flat)
    return variables["g"], variables["d"]


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Keeps tests that need many gigabytes from running beside each other in two workers."""
    with open(pathlib.Path(tempfile.gettempdir()) / "ganavatar_jax_tests.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def assert_gradients(gradients, network, arrays, *, prefix, kind, l2_limit, cosine_limit):
    """Compares every stored gradient, under its original name and layout."""
    variables = {**network, "params": gradients}
    exported = names_eg3d.export_names(jax.tree.map(np.asarray, variables), kind=kind)
    names = [key for key in arrays if key.startswith(prefix)]
    assert names
    for key in names:
        name, _, step = key.removeprefix(prefix).partition("[::")
        gradient = exported[name][:: int(step[:-1])] if step else exported[name]
        compare.assert_gradient(
            gradient,
            arrays[key],
            name=key,
            l2_limit=l2_limit,
            cosine_limit=cosine_limit,
        )


def _generator_config(options: dict[str, Any]) -> generator_config.GeneratorConfig:
    rendering = options["rendering_kwargs"]
    kind = _KINDS[rendering["superresolution_module"].rsplit(".", 1)[1]]
    return generator_config.GeneratorConfig(
        img_resolution=options["img_resolution"],
        neural_resolution=options["neural_rendering_resolution"],
        mapping_layers=options["mapping_layers"],
        channel_base=options["channel_base"],
        channel_max=options["channel_max"],
        superresolution=kind,
        superresolution_clamp=None,
        condition_on_camera=not rendering["c_gen_conditioning_zero"],
        condition_scale=rendering["c_scale"],
        render=render_config.RenderConfig(
            depth_resolution=rendering["depth_resolution"],
            depth_resolution_importance=rendering["depth_resolution_importance"],
            ray_start=rendering["ray_start"],
            ray_end=rendering["ray_end"],
            box_warp=float(rendering["box_warp"]),
            white_back=rendering.get("white_back", False),
            plane_axes="fixed" if options["fixed_plane_axes"] else "original",
        ),
    )


def _discriminator_config(options: dict[str, Any]) -> discriminator_config.DiscriminatorConfig:
    return discriminator_config.DiscriminatorConfig(
        img_resolution=options["img_resolution"],
        channel_base=options["channel_base"],
        channel_max=options["channel_max"],
        mbstd_group_size=options["mbstd_group_size"],
        mbstd_block_size=0,
        conv_clamp=None,
    )
