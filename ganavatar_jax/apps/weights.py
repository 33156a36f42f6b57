"""Starting weights and exported weights: a folder with one file for each network.

`generator.safetensors` holds the averaged generator, `discriminator.safetensors` the
discriminator, `encoder.safetensors`, where one was trained, the image encoder; all are the portable
format of core.portable and name their architecture.
"""

import dataclasses
import importlib.resources
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, files, portable, trees
from ganavatar_jax.models import (
    discriminator,
    discriminator_config,
    encoder,
    encoder_config,
    generator,
    generator_config,
)

GENERATOR, DISCRIMINATOR = "generator.safetensors", "discriminator.safetensors"
ENCODER = "encoder.safetensors"
MAPPING = "mapping.safetensors"  # from codes to w; see train_mapping


def locate(init: str) -> pathlib.Path:
    """Finds the folder a run starts from.

    Args:
      init: Name of weights that ship with the package, or a folder; a folder of that name in the
        working directory comes second, so that a name means the same everywhere.

    Returns:
      The folder.

    Raises:
      WeightError: there is no such folder.
    """
    root = pathlib.Path(str(importlib.resources.files("ganavatar_jax") / "assets" / "weights"))
    shipped = sorted(path.name for path in root.glob("*") if path.is_dir())
    folder = root / init if init in shipped else files.expand_user(init)
    if not (folder / GENERATOR).is_file():
        raise errors.WeightError(
            f"gan.init: expected the name of shipped weights ({', '.join(shipped) or 'none'}) or a "
            f"folder with {GENERATOR}; got {init!r}. Export a run or convert weights first."
        )
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
    """
    variables, _ = portable.load_params(path)
    # Weights may ship in half precision.
    variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), variables)
    expected, found = dict(trees.flatten_names(abstract)), dict(trees.flatten_names(variables))
    portable.check_fit(expected, found, what=str(path))
    return variables


class Start(NamedTuple):
    """The networks a run starts from; None where the start has none.

    Attributes:
      g: Generator variables.
      d: Discriminator variables.
      e: Encoder variables, without probes.
    """

    g: dict[str, Any]
    d: dict[str, Any] | None
    e: dict[str, Any] | None


def load_start(
    init: str,
    g: generator_config.GeneratorConfig,
    d: discriminator_config.DiscriminatorConfig,
    *,
    e: encoder_config.EncoderConfig | None = None,
) -> Start:
    """Loads the networks of a start.

    Args:
      init: Name of shipped weights or a folder.
      g: The run's generator.
      d: The run's discriminator.
      e: The run's encoder; None leaves the start's aside.

    Returns:
      The networks.

    Raises:
      WeightError: there is no such start, or it does not fit the run's networks, or was trained
        with other options that decide what its numbers mean.
    """
    folder = locate(init)
    key = jax.random.key(0)
    _check_meaning(folder / GENERATOR, g)
    abstract = {
        GENERATOR: jax.eval_shape(lambda k: generator.init(k, g), key),
        DISCRIMINATOR: jax.eval_shape(lambda k: discriminator.init(k, d), key),
    }
    if e is not None:
        abstract[ENCODER] = abstract_encoder(_as_stored(folder / ENCODER, e), g)
    found = {
        name: load_network(folder / name, shapes)
        for name, shapes in abstract.items()
        if (folder / name).is_file()
    }
    return Start(found[GENERATOR], found.get(DISCRIMINATOR), found.get(ENCODER))


def abstract_encoder(
    config: encoder_config.EncoderConfig, g: generator_config.GeneratorConfig
) -> Any:
    """Describes the encoder that feeds a generator.

    Args:
      config: Its sizes.
      g: The generator.

    Returns:
      Its variables as shapes, without probes.
    """
    return jax.eval_shape(
        lambda k: encoder.init(k, config, resolution=g.img_resolution, z_dim=g.z_dim),
        jax.random.key(0),
    )


def _as_stored(
    path: pathlib.Path, config: encoder_config.EncoderConfig
) -> encoder_config.EncoderConfig:
    """Takes from the file how much it reads off faces: settling on a person changes that anyway."""
    stored = portable.read_metadata(path).get("architecture") if path.is_file() else None
    identity = stored.get("identity", "learned") if isinstance(stored, dict) else "learned"
    if config.identity == "learned" and identity != "learned":
        raise errors.WeightError(
            f'{path}: gan.reconstruction.encoder.identity="learned" needs an encoder that learnt '
            f'who people are; this one\'s identity is "{identity}". Set identity=face.'
        )
    if identity == "face" and not config.face_dim:
        raise errors.WeightError(
            f"{path}: its latent tells of one person's face; got "
            "gan.reconstruction.encoder.face_dim=0. Set face_dim=16 and identity=face."
        )
    return dataclasses.replace(config, identity=identity)


def _check_meaning(path: pathlib.Path, config: generator_config.GeneratorConfig) -> None:
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
    d: dict[str, Any] | None,
    *,
    g_config: generator_config.GeneratorConfig,
    d_config: discriminator_config.DiscriminatorConfig,
    provenance: dict[str, Any],
    e: dict[str, Any] | None = None,
    e_config: encoder_config.EncoderConfig | None = None,
) -> None:
    """Exports the networks of a run.

    Args:
      folder: Where the files go.
      g_ema: Averaged generator.
      d: Discriminator; None if it was not trained.
      g_config: Sizes of the generator.
      d_config: Sizes of the discriminator.
      provenance: JSON-serialisable facts about how they were made.
      e: Encoder, if one was trained.
      e_config: Its sizes.

    Raises:
      RunError: the files cannot be written.
    """
    parts: list[tuple[str, str, dict[str, Any], Any]] = [(GENERATOR, "generator", g_ema, g_config)]
    if d is not None:
        parts.append((DISCRIMINATOR, "discriminator", d, d_config))
    if e is not None:
        # Probes only serve the encoder's own training.
        parts.append((ENCODER, "encoder", {k: e[k] for k in ("params", "buffers")}, e_config))
    for name, kind, variables, config in parts:
        metadata = {
            "kind": kind,
            "architecture": config_lib.to_dict(config),
            "provenance": provenance,
        }
        portable.save_params(folder / name, jax.tree.map(np.asarray, variables), metadata)
