"""Loads golden networks: options from the json, weights from the snapshot, tensors from the npz."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compare
from weight_port import names_eg3d, torch_pickle

from ganavatar_jax.core import trees
from ganavatar_jax.models import discriminator, generator
from ganavatar_jax.rendering import volume

_KINDS = {"SuperresolutionHybrid8XDC": "8XDC", "SuperresolutionHybrid2X": "2X"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One golden network."""

    config: generator.GeneratorConfig
    d_config: discriminator.DiscriminatorConfig
    g: dict[str, Any]
    d: dict[str, Any]
    arrays: dict[str, np.ndarray]


def load(folder: pathlib.Path, name: str) -> Case:
    """Loads a case, or skips the test where its files are missing."""
    options_path = folder / f"{name}.json"
    if not options_path.is_file():
        pytest.skip(f"no golden files of {name}")
    options = json.loads(options_path.read_text())
    with np.load(folder / f"{name}.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    # ganavatar512_box shares eg3d_ffhq512's weights but for what its npz overrides.
    source = folder / f"{'eg3d_ffhq512' if name == 'ganavatar512_box' else name}.pkl"
    snapshot = torch_pickle.read_snapshot(source)
    g = names_eg3d.import_generator(snapshot["G_ema"]).variables
    d = names_eg3d.import_discriminator(snapshot["D"]).variables
    flat = dict(trees.flatten_names(g))
    for key in [k for k in arrays if k.startswith("override.")]:
        value = arrays[key]
        flat[f"params.{key.removeprefix('override.')}"] = value.T if value.ndim == 2 else value
    g = jax.tree.map(jnp.asarray, trees.unflatten_names(flat))
    return Case(
        _generator_config(options), _discriminator_config(options), g, jax.tree.map(jnp.asarray, d), arrays
    )


def assert_gradients(gradients, arrays, *, prefix, kind, l2_limit, cosine_limit):
    """Compares every stored gradient, under its original name and layout."""
    exported = names_eg3d.export_names(
        {"params": jax.tree.map(np.asarray, gradients["params"])}, kind=kind
    )
    names = [key for key in arrays if key.startswith(prefix)]
    assert names
    for key in names:
        compare.assert_gradient(
            exported[key.removeprefix(prefix)],
            arrays[key],
            name=key,
            l2_limit=l2_limit,
            cosine_limit=cosine_limit,
        )


def _generator_config(options: dict[str, Any]) -> generator.GeneratorConfig:
    rendering = options["rendering_kwargs"]
    kind = _KINDS[rendering["superresolution_module"].rsplit(".", 1)[1]]
    return generator.GeneratorConfig(
        img_resolution=options["img_resolution"],
        neural_resolution=options["neural_rendering_resolution"],
        mapping_layers=options["mapping_layers"],
        channel_base=options["channel_base"],
        channel_max=options["channel_max"],
        superresolution=kind,
        superresolution_clamp=None,
        condition_on_camera=not rendering["c_gen_conditioning_zero"],
        condition_scale=rendering["c_scale"],
        render=volume.RenderConfig(
            depth_resolution=rendering["depth_resolution"],
            depth_resolution_importance=rendering["depth_resolution_importance"],
            ray_start=rendering["ray_start"],
            ray_end=rendering["ray_end"],
            box_warp=float(rendering["box_warp"]),
            white_back=rendering.get("white_back", False),
            plane_axes="fixed" if options["fixed_plane_axes"] else "original",
        ),
    )


def _discriminator_config(options: dict[str, Any]) -> discriminator.DiscriminatorConfig:
    return discriminator.DiscriminatorConfig(
        img_resolution=options["img_resolution"],
        channel_base=options["channel_base"],
        channel_max=options["channel_max"],
        mbstd_group_size=options["mbstd_group_size"],
        conv_clamp=None,
    )
