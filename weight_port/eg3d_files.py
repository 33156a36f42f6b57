"""EG3D snapshots to portable files, and portable files back to the original names.

A start for training is a folder with `generator.safetensors` and `discriminator.safetensors`, the
layout of `apps.weights`. Headers hold the configuration as this package names it
("architecture"), what the snapshot said under the original names ("original"), the statistic of
the training labels if there was one ("extras"), and where the numbers come from ("provenance").
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, portable
from weight_port import configs_eg3d, eg3d_sources, names_eg3d, outputs, torch_pickle

GENERATOR, DISCRIMINATOR = "generator.safetensors", "discriminator.safetensors"
NETWORKS = eg3d_sources.NETWORKS


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """How a snapshot is imported.

    Attributes:
      network: "G_ema", "G" or "D"; for a folder, which generator.
      plane_axes: Axes to insist on; None takes the file's.
      override_axes: Whether the file's axes may be contradicted.
      overwrite: Whether files of another origin may be replaced.
      like: A converted network with the options of a bare state dict, which names none.
    """

    network: str = "G_ema"
    plane_axes: configs_eg3d.PlaneAxes | None = None
    override_axes: bool = False
    overwrite: bool = False
    like: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Output:
    """A portable file of a conversion; `fresh` tells whether it was written now."""

    path: pathlib.Path
    metadata: Mapping[str, Any]
    fresh: bool


def convert(src: pathlib.Path, dst: pathlib.Path, options: ImportOptions) -> list[Output]:
    """Converts a snapshot's networks.

    Args:
      src: The snapshot, or any file that holds the networks; see `eg3d_sources`.
      dst: A *.safetensors file for one network; any other name is a folder for both.
      options: Which network, and what to insist on.

    Returns:
      The files, those that were there already included.

    Raises:
      WeightError: The snapshot cannot be read safely, is not EG3D's, contradicts the options, or
        another file is in the way.
      RunError: A file cannot be written.
    """
    if dst.suffix == ".safetensors":
        targets = {options.network: dst}
    else:
        targets = {options.network: dst / GENERATOR, "D": dst / DISCRIMINATOR}
    digest = outputs.hash_source(src)
    found, todo = [], {}
    for network, path in targets.items():
        provenance = _provenance(src, digest, network, options)
        metadata = outputs.find_made(path, provenance, overwrite=options.overwrite)
        if metadata is not None and _has_axes(metadata, options.plane_axes):
            found.append(Output(path, metadata, fresh=False))
        else:
            todo[network] = path
    if todo:
        source = eg3d_sources.open_source(src)
        known = [network for network in targets if source.has(network)]
        # A start may be a generator alone; what was asked for by name must be there.
        for network in known if options.network in known and len(targets) > 1 else todo:
            if network in todo:
                metadata = _import(source, network, todo[network], digest, options)
                found.append(Output(todo[network], metadata, fresh=True))
    return found


def load_imported(src: pathlib.Path, network: str) -> names_eg3d.Imported:
    """Reads one network of a snapshot.

    Args:
      src: The snapshot.
      network: "G_ema", "G" or "D".

    Returns:
      The network in our terms.

    Raises:
      WeightError: The snapshot cannot be read safely, or is not EG3D's; names the file.
    """
    return eg3d_sources.read_module(torch_pickle.read_snapshot(src), network)


def export(src: pathlib.Path, dst: pathlib.Path) -> dict[str, np.ndarray]:
    """Writes a portable generator or discriminator under the original names.

    Args:
      src: A file of `convert`, or of a run's checkpoints/export.
      dst: *.safetensors, *.npz or *.pth.

    Returns:
      What was written: arrays by original name.

    Raises:
      WeightError: The source is damaged or of another kind, or the suffix is unknown.
      RunError: The file cannot be written.
    """
    variables, metadata = portable.load_params(src)
    kind = metadata.get("kind")
    if kind not in names_eg3d.KINDS:
        raise errors.WeightError(
            f"{src}: expected the weights of a generator or discriminator; got {kind!r}. Use "
            "--kind=mapping or --kind=deep3d for those"
        )
    extras = {
        name: np.asarray(values, np.float32) for name, values in metadata.get("extras", {}).items()
    }
    try:
        tensors = names_eg3d.export_names(variables, kind=kind, extras=extras)
    except errors.WeightError as error:
        raise errors.WeightError(f"{src}: {error}") from error
    facts = {name: metadata[name] for name in eg3d_sources.FACTS if name in metadata}
    outputs.write_named(dst, tensors, facts=facts)
    return tensors


def _import(
    source: eg3d_sources.Source,
    network: str,
    path: pathlib.Path,
    digest: str,
    options: ImportOptions,
) -> dict[str, Any]:
    """Converts one network and writes beside it what the file said of itself."""
    try:
        found = source.read(network, options.like)
        config = found.config
        if NETWORKS[network] == "generator":
            config = configs_eg3d.with_plane_axes(
                config, options.plane_axes, override=options.override_axes
            )
    except errors.WeightError as error:
        text = str(error)
        named = text if text.startswith(str(source.path)) else f"{source.path}: {network}: {text}"
        raise errors.WeightError(named) from error
    metadata = {
        "kind": NETWORKS[network],
        "architecture": config_lib.to_dict(config),
        "original": found.original,
        "extras": {name: array.tolist() for name, array in found.extras.items()},
        "provenance": _provenance(source.path, digest, network, options),
    }
    portable.save_params(path, found.variables, metadata)
    return metadata


def _has_axes(metadata: Mapping[str, Any], requested: str | None) -> bool:
    render = metadata["architecture"].get("render", {})  # a discriminator has none
    return requested is None or render.get("plane_axes", requested) == requested


def _provenance(
    src: pathlib.Path, digest: str, network: str, options: ImportOptions
) -> dict[str, Any]:
    facts = {"file": src.name, "sha256": digest, "network": network, "format": "eg3d"}
    if options.override_axes and options.plane_axes and network != "D":
        facts["plane_axes_overridden"] = options.plane_axes
    if options.like is not None:
        facts["like"] = outputs.hash_source(options.like)
    return facts
