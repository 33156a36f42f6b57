"""Starting weights and exported weights: a folder with one file for each network.

`generator.safetensors` holds the averaged generator, `discriminator.safetensors` the
discriminator; both are the portable format of core.portable and name their architecture.
"""

import importlib.resources
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, portable, trees
from ganavatar_jax.models import discriminator, generator

GENERATOR, DISCRIMINATOR = "generator.safetensors", "discriminator.safetensors"
ENCODER = "encoder.safetensors"
_PACKAGE = "package:"


def locate(init: str) -> pathlib.Path:
    """Finds the folder a run starts from.

    Args:
      init: "package:NAME" or a folder.

    Returns:
      The folder.

    Raises:
      WeightError: there is no such folder.

    Source: ours.
    """
    if init.startswith(_PACKAGE):
        root = importlib.resources.files("ganavatar_jax") / "assets" / "weights"
        folder = pathlib.Path(str(root / init.removeprefix(_PACKAGE)))
        known = sorted(p.name for p in pathlib.Path(str(root)).glob("*") if p.is_dir())
        fix = f"Known names: {', '.join(known) or 'none'}."
    else:
        folder = pathlib.Path(init).expanduser()
        fix = f"Give a folder with {GENERATOR} and {DISCRIMINATOR}."
    if not (folder / GENERATOR).is_file():
        raise errors.WeightError(f"gan.init: no starting weights at {init!r}. {fix}")
    return folder


def load_network(path: pathlib.Path, abstract: Any) -> dict[str, Any]:
    """Loads one network and insists that it fits.

    Args:
      path: A file of the portable format.
      abstract: Variables with the shapes and dtypes to expect.

    Returns:
      The variables in float32, on the default device.

    Raises:
      WeightError: the file is damaged, or tensors are missing, unexpected or misshapen.

    Source: ours.
    """
    variables, _ = portable.load_params(path)
    # Weights may ship in half precision.
    variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), variables)
    expected, found = dict(trees.flatten_names(abstract)), dict(trees.flatten_names(variables))
    portable.check_fit(expected, found, what=str(path))
    return variables


def load_start(
    init: str, g: generator.GeneratorConfig, d: discriminator.DiscriminatorConfig
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Loads generator and discriminator of a start.

    Args:
      init: "package:NAME" or a folder.
      g: The run's generator.
      d: The run's discriminator.

    Returns:
      Generator variables and discriminator variables; None where the folder has none of D.

    Raises:
      WeightError: there is no such start, or it does not fit the run's networks, or was trained
        with other options that decide what its numbers mean.

    Source: ours.
    """
    folder = locate(init)
    key = jax.random.key(0)
    abstract_g = jax.eval_shape(lambda k: generator.init(k, g), key)
    abstract_d = jax.eval_shape(lambda k: discriminator.init(k, d), key)
    _check_meaning(folder / GENERATOR, g)
    g_variables = load_network(folder / GENERATOR, abstract_g)
    if not (folder / DISCRIMINATOR).is_file():
        return g_variables, None
    return g_variables, load_network(folder / DISCRIMINATOR, abstract_d)


def _check_meaning(path: pathlib.Path, config: generator.GeneratorConfig) -> None:
    """Refuses weights whose shapes fit but whose planes or decoder mean something else."""
    stored = portable.read_metadata(path).get("architecture")
    if not isinstance(stored, dict):
        return  # made by hand: nothing is known about it
    render = stored.get("render")
    facts = {**stored, **(render if isinstance(render, dict) else {})}
    values = {
        "render.plane_axes": (facts.get("plane_axes"), config.render.plane_axes),
        "render.box_warp": (facts.get("box_warp"), config.render.box_warp),
        "decoder_lr_multiplier": (
            facts.get("decoder_lr_multiplier"),
            config.decoder_lr_multiplier,
        ),
    }
    for name, (found, wanted) in values.items():
        if found is not None and found != wanted:
            again = (
                ", or convert it again with --override_axes if you know better than the file"
                if name.endswith("plane_axes")
                else ""
            )
            raise errors.WeightError(
                f"{path}: was trained with {name} {found!r}, the config says {wanted!r}; set "
                f"--config.generator.{name}={found}{again}."
            )


def save_networks(
    folder: pathlib.Path,
    g_ema: dict[str, Any],
    d: dict[str, Any],
    *,
    g_config: generator.GeneratorConfig,
    d_config: discriminator.DiscriminatorConfig,
    provenance: dict[str, Any],
    e: dict[str, Any] | None = None,
) -> None:
    """Exports the networks of a run.

    Args:
      folder: Where the files go.
      g_ema: Averaged generator.
      d: Discriminator.
      g_config: Sizes of the generator.
      d_config: Sizes of the discriminator.
      provenance: JSON-serialisable facts about how they were made.
      e: Encoder, if one was trained.

    Raises:
      RunError: the files cannot be written.

    Source: ours.
    """
    parts: list[tuple[str, str, dict[str, Any], Any]] = [
        (GENERATOR, "generator", g_ema, g_config),
        (DISCRIMINATOR, "discriminator", d, d_config),
    ]
    if e is not None:
        parts.append((ENCODER, "encoder", e, g_config))
    for name, kind, variables, config in parts:
        metadata = {
            "kind": kind,
            "architecture": config_lib.to_dict(config),
            "provenance": provenance,
        }
        portable.save_params(folder / name, jax.tree.map(np.asarray, variables), metadata)
