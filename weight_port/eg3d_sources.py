"""What EG3D's networks come in: snapshots, state dicts, our exports and our own files.

A snapshot's modules know their options. A bare state dict does not say plane axes, rendering
options or the size of images: our exports carry them in the header of safetensors files, and for
all others they are taken from a converted network that is named (`like`). Nothing is guessed.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganavatar_jax.core import config as config_lib
from ganavatar_jax.core import errors, portable, trees
from ganavatar_jax.core.readers import numpy_pickle, pickle_values, text_files
from ganavatar_jax.models import discriminator_config, generator_config
from weight_port import (
    configs_eg3d,
    names_eg3d,
    outputs,
    shapes_eg3d,
    torch_pickle,
    torch_zip,
    weight_files,
    wrappers,
)

NETWORKS = {"G_ema": "generator", "G": "generator", "D": "discriminator"}
FACTS = ("kind", "architecture", "original", "extras")  # of the metadata that exports carry
_CONFIGS = {
    "generator": generator_config.GeneratorConfig,
    "discriminator": discriminator_config.DiscriminatorConfig,
}
_SIGNS = {
    "generator": ("backbone.synthesis.b4.const", "decoder.net.0.weight"),
    "discriminator": ("b4.fc.weight", "b4.out.weight"),
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and its configuration.

    Attributes:
      variables: {"params": ..., "buffers": ...}, our names and layouts.
      config: A GeneratorConfig or a DiscriminatorConfig.
      original: What the file said under the original names.
      extras: dataset_label_std if the file has it.
    """

    variables: dict[str, Any]
    config: Any
    original: dict[str, Any]
    extras: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Source:
    """A file with networks.

    Attributes:
      path: The file.
      content: A snapshot, state dicts, or the kind of a file of ours.
    """

    path: pathlib.Path
    content: torch_pickle.Snapshot | weight_files.WeightFile | str

    def has(self, network: str) -> bool:
        """Tells whether a network is there.

        Args:
          network: "G_ema", "G" or "D".

        Returns:
          Whether it can be looked for; it may be damaged.
        """
        if isinstance(self.content, str):
            return self.content == NETWORKS[network]
        if isinstance(self.content, torch_pickle.Snapshot):
            return network in self.content.entries
        try:
            _find_state_dict(self.content, network)
        except errors.WeightError:
            return False
        return True

    def read(self, network: str, like: pathlib.Path | None = None) -> Network:
        """Reads a network.

        Args:
          network: "G_ema", "G" or "D".
          like: A converted network with the options of a bare state dict.

        Returns:
          The network.

        Raises:
          WeightError: It is not there, not EG3D's, or its options are not known.
        """
        if isinstance(self.content, str):
            return _read_own(self.path, network)
        if isinstance(self.content, weight_files.WeightFile):
            return _read_state_dict(self.content, network, like)
        found = read_module(self.content, network)
        original = {"architecture": found.architecture, "rendering": found.rendering}
        return Network(found.variables, configure(found, network), original, found.extras)


def open_source(path: pathlib.Path) -> Source:
    """Opens a file by what it holds.

    Args:
      path: The file.

    Returns:
      The source.

    Raises:
      WeightError: It cannot be read safely.
    """
    if portable.is_portable(path):
        return Source(path, str(portable.read_metadata(path).get("kind")))
    buffer = numpy_pickle.open_mapped(path)
    # The first byte of safetensors files is a length, and may be that of a pickle.
    pickled = bytes(buffer[:1]) == b"\x80" and not weight_files.is_safetensors(buffer)
    if torch_zip.is_archive(buffer):
        pickled = b".npy" not in bytes(buffer[:256])
    if not pickled:
        return Source(path, weight_files.read(path))
    value = torch_pickle.read_raw(path)
    entries = torch_pickle.find_networks(value)
    if entries is not None:
        return Source(path, torch_pickle.Snapshot(path, entries))
    try:
        plain = pickle_values.to_plain(value, budget=2 * len(buffer))
    except errors.WeightError as error:
        raise errors.WeightError(f"{path}: {error}") from error
    return Source(path, weight_files.WeightFile(plain, {}))


def read_module(snapshot: torch_pickle.Snapshot, network: str) -> names_eg3d.Imported:
    """Reads a network of a snapshot, showing progress.

    Args:
      snapshot: The snapshot.
      network: "G_ema", "G" or "D".

    Returns:
      The network in our terms.

    Raises:
      WeightError: It is not there or not EG3D's; names file and network.
    """
    module = snapshot[network]
    try:
        total = sum(tensor.nbytes for tensor in torch_pickle.named_tensors(module).values())
        with outputs.bar(total, network) as shown:
            return names_eg3d.IMPORTERS[NETWORKS[network]](
                module, on_bytes=lambda count: shown.update(outputs.megabytes(count))
            )
    except errors.WeightError as error:
        raise errors.WeightError(f"{snapshot.path}: {network}: {error}") from error


def configure(imported: names_eg3d.Imported, network: str) -> Any:
    """Makes the configuration of an imported network.

    Args:
      imported: The network.
      network: "G_ema", "G" or "D".

    Returns:
      A GeneratorConfig or a DiscriminatorConfig.

    Raises:
      WeightError: An option has no counterpart.
    """
    if NETWORKS[network] == "generator":
        return configs_eg3d.to_generator_config(imported.architecture, imported.rendering)
    return configs_eg3d.to_discriminator_config(imported.architecture)


def _read_own(path: pathlib.Path, network: str) -> Network:
    variables, metadata = portable.load_params(path)
    kind = NETWORKS[network]
    if metadata.get("kind") != kind:
        raise errors.WeightError(f"expected a {kind}; got a {metadata.get('kind')!r:.40}")
    return _with_facts(variables, kind, metadata, {})


def _read_state_dict(
    file: weight_files.WeightFile, network: str, like: pathlib.Path | None
) -> Network:
    """Reads a state dict, whose options stand in its header or in another file."""
    kind = NETWORKS[network]
    tensors = dict(_find_state_dict(file, network))
    extras = {name: tensors.pop(name) for name in [shapes_eg3d.LABEL_STD] if name in tensors}
    variables = names_eg3d.import_names(tensors, kind=kind)
    if like is not None:
        others, facts = portable.load_params(like)
        _refuse_other_shapes(variables, others, like)
    elif outputs.FACTS in file.notes:
        facts = _parse_facts(file.notes[outputs.FACTS])
    else:
        raise errors.WeightError(
            f"holds the bare state dict of a {kind}, which does not say its options (plane axes, "
            "rendering, image size); add --like=FILE.safetensors, a converted network that has "
            "the same ones, or convert the snapshot"
        )
    if facts.get("kind") != kind:
        raise errors.WeightError(f"expected the options of a {kind}; got {facts.get('kind')!r:.40}")
    return _with_facts(variables, kind, facts, extras)


def _find_state_dict(file: weight_files.WeightFile, network: str) -> dict[str, Any]:
    entries = (network,) if isinstance(file.content, dict) and network in file.content else ()
    kind = NETWORKS[network]
    return wrappers.unwrap(file.content, _SIGNS[kind], what=f"a {kind}", entries=entries).tensors


def _with_facts(
    variables: dict[str, Any], kind: str, facts: Mapping[str, Any], extras: dict[str, np.ndarray]
) -> Network:
    """Puts together what a file of ours says about its network."""
    try:
        config = config_lib.resolve(_CONFIGS[kind], facts["architecture"])
        stored = facts.get("extras") or {}
        extras = {n: np.asarray(v, np.float32) for n, v in stored.items()} | extras
        original = dict(facts.get("original") or {})
    except (errors.ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise errors.WeightError(
            f"the options in its header are not understood ({reason:.200}); convert it again"
        ) from error
    return Network(variables, config, original, extras)


def _parse_facts(text: str) -> dict[str, Any]:
    try:
        facts = text_files.parse_json(text)
        if not isinstance(facts, dict):
            raise ValueError(f"a {type(facts).__name__}")
    except ValueError as error:
        raise errors.WeightError(
            f"expected JSON in the header under {outputs.FACTS!r}; got {error}; export it again"
        ) from error
    return facts


def _refuse_other_shapes(
    variables: Mapping[str, Any], others: Mapping[str, Any], like: pathlib.Path
) -> None:
    named, known = (
        {n: np.asarray(v) for n, v in trees.flatten_names(tree)} for tree in (variables, others)
    )
    portable.check_fit(known, named, what=f"the state dict, beside {like.name},")
