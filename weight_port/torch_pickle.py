"""Network snapshots and checkpoints of PyTorch, read without torch and without running them.

An EG3D snapshot is a pickle whose objects carry the source text of their classes; the original
loader executes that text. Here every module is inert (see `torch_modules`), and a global outside
the allow-list ends the reading with an error that names it. There is no fallback to another loader.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import numpy_pickle, pickle_values, safe_pickle
from weight_port import torch_modules, torch_tensors, torch_zip

_BOOKKEEPING = re.compile(
    r"training|_parameters|_buffers|_modules|_non_persistent_buffers_set|_is_full_backward_hook"
    r"|_.*hooks(_with_kwargs|_always_called)?"
)
_NETWORKS = {"TriPlaneGenerator": "G_ema", "DualDiscriminator": "D"}
_MAX_MODULES = 10_000
_MAX_TENSORS = 100_000
_MAX_ATTRIBUTE_BYTES = 1 << 24


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The objects of a snapshot file by name: G, D, G_ema, training_set_kwargs, augment_pipe."""

    path: pathlib.Path
    entries: dict[str, Any]

    def __getitem__(self, name: str) -> torch_modules.ModuleNode:
        """Returns a network of the snapshot; WeightError if there is none of that name."""
        found = self.entries.get(name)
        if not isinstance(found, torch_modules.ModuleNode):
            there = [
                key
                for key, value in self.entries.items()
                if isinstance(value, torch_modules.ModuleNode)
            ]
            raise errors.WeightError(
                f"{self.path}: holds no network {name}; there are: {', '.join(there) or 'none'}"
            )
        return found


def read_snapshot(path: str | pathlib.Path) -> Snapshot:
    """Reads a network snapshot (`network-snapshot-*.pkl`, or saved by torch); modules are inert.

    Args:
      path: The file. It stays mapped while its tensors are in use and must not change.

    Returns:
      The snapshot; `snapshot["G_ema"]` is a module for `state_dict` and `attributes`.

    Raises:
      WeightError: The file is missing, damaged, of another kind, or names a global that is not
        on the allow-list.

    Source: EG3D reference behaviour (layout of snapshots).
    """
    path = pathlib.Path(path)
    entries = find_networks(read_raw(path))
    if entries is None:
        raise errors.WeightError(
            f"{path}: holds no network with its options, as a snapshot does; not an EG3D snapshot"
        )
    return Snapshot(path, entries)


def read_raw(path: str | pathlib.Path) -> Any:
    """Reads a pickle or a torch.save file; modules and tensors in it stay inert.

    Args:
      path: The file. It stays mapped while its tensors are in use and must not change.

    Returns:
      What it holds.

    Raises:
      WeightError: The file is missing, damaged, of another kind, or names a global that is not
        on the allow-list.

    Source: torch's serialisation format.
    """
    path = pathlib.Path(path)
    buffer = numpy_pickle.open_mapped(path)
    if torch_zip.is_archive(buffer):
        return torch_zip.read_archive(path, buffer, torch_modules.allowed)
    if torch_tensors.is_stream(buffer):
        stream = torch_tensors.StreamReader(buffer, str(path), torch_modules.allowed)
        return stream.read(pickle_values.Limits())
    value, end = safe_pickle.load(buffer, label=str(path), lookup=torch_modules.allowed)
    if end != len(buffer):
        raise errors.WeightError(f"{path}: data follows the pickle; not an EG3D snapshot")
    return value


def find_networks(value: Any) -> dict[str, Any] | None:
    """Finds the networks of a snapshot: in it, one level below, or as the file's only object.

    Args:
      value: What a file holds.

    Returns:
      Its entries, networks without what wraps them; None where there is no network.
    """
    value = _unwrap_module(value)
    if isinstance(value, torch_modules.ModuleNode):
        return {_NETWORKS.get(value.class_name, value.class_name): value}
    if not isinstance(value, dict):
        return None
    inner = [part for part in value.values() if isinstance(part, dict)]
    for entries in (value, *inner):
        found = {key: _unwrap_module(part) for key, part in entries.items()}
        if any(isinstance(part, torch_modules.ModuleNode) for part in found.values()):
            return found
    return None


def _unwrap_module(value: Any) -> Any:
    """Takes a network out of data parallelism."""
    if isinstance(value, torch_modules.ModuleNode) and value.class_name == "DataParallel":
        return value.child("module")
    return value


def read_checkpoint(path: str | pathlib.Path) -> Any:
    """Reads a torch.save file of state dicts (`*.pth`, archive or legacy stream).

    Args:
      path: The file.

    Returns:
      Nested dicts, lists and tuples of plain values and numpy arrays.

    Raises:
      WeightError: The file is missing, damaged, of another kind, holds whole modules, or names a
        global that is not on the allow-list.

    Source: torch's serialisation format.
    """
    path = pathlib.Path(path)
    buffer = numpy_pickle.open_mapped(path)
    if torch_zip.is_archive(buffer):
        value = torch_zip.read_archive(path, buffer, torch_modules.allowed)
    else:
        stream = torch_tensors.StreamReader(buffer, str(path), torch_modules.allowed)
        value = stream.read(pickle_values.Limits())
    try:
        return pickle_values.to_plain(value, budget=2 * len(buffer))
    except errors.WeightError as error:
        raise errors.WeightError(f"{path}: {error}") from error


def state_dict(
    module: torch_modules.ModuleNode, *, on_bytes: Callable[[int], None] | None = None
) -> dict[str, np.ndarray]:
    """Collects a module's parameters and persistent buffers under their dotted names.

    Args:
      module: A module of a snapshot.
      on_bytes: Called after each tensor with its size, to show progress.

    Returns:
      Owned arrays by name, in the module's own order.

    Raises:
      WeightError: The module is not laid out like a torch module, or holds more than its file can.

    Source: torch.nn.Module.state_dict.
    """
    found = {}
    for name, tensor in named_tensors(module).items():
        found[name] = tensor.to_plain()
        if on_bytes is not None:
            on_bytes(tensor.nbytes)
    return found


def named_tensors(module: torch_modules.ModuleNode) -> dict[str, torch_tensors.Tensor]:
    """Collects a module's tensors under their dotted names without decoding them.

    Args:
      module: A module of a snapshot.

    Returns:
      Tensors by name.

    Raises:
      WeightError: As `state_dict`.

    Source: torch.nn.Module.state_dict.
    """
    found: dict[str, torch_tensors.Tensor] = {}
    for prefix, node in _walk(module):
        for name, tensor in _own_tensors(node).items():
            if not isinstance(tensor, torch_tensors.Tensor):
                raise errors.WeightError(f"{prefix}{name} is not a tensor; damaged file")
            found[prefix + name] = tensor
        if len(found) > _MAX_TENSORS:
            raise errors.WeightError(f"more than {_MAX_TENSORS} tensors; refused")
    storages = {tensor.storage.address: tensor.storage.nbytes for tensor in found.values()}
    if sum(tensor.nbytes for tensor in found.values()) > 4 * sum(storages.values()):
        raise errors.WeightError("the tensors share their storages too often; refused")
    return found


def _walk(module: torch_modules.ModuleNode) -> Iterator[tuple[str, torch_modules.ModuleNode]]:
    """Yields (dotted prefix, module), parents first; a shared module is met once per path."""
    pending = [("", module)]
    for _ in range(_MAX_MODULES):
        if not pending:
            return
        prefix, node = pending.pop(0)
        yield prefix, node
        for name, child in node.members("_modules").items():
            if not isinstance(child, torch_modules.ModuleNode):
                raise errors.WeightError(f"{prefix}{name} is not a module; damaged file")
            pending.append((f"{prefix}{name}.", child))
        if len(pending) > _MAX_MODULES:
            break
    raise errors.WeightError(f"more than {_MAX_MODULES} modules; refused")


def _own_tensors(node: torch_modules.ModuleNode) -> dict[str, Any]:
    transient = node.state.get("_non_persistent_buffers_set", set())
    buffers = node.members("_buffers")
    kept = {name: value for name, value in buffers.items() if name not in transient}
    return {**node.members("_parameters"), **kept}


def attributes(module: torch_modules.ModuleNode) -> dict[str, Any]:
    """Returns a module's own attributes, without torch's registries and hooks.

    Args:
      module: A module of a snapshot.

    Returns:
      Attributes by name: plain values, arrays for tensors, modules as they are.

    Raises:
      WeightError: An attribute cannot be shown as plain data.
    """
    return {
        name: value if isinstance(value, torch_modules.ModuleNode) else _plain_attribute(value)
        for name, value in module.state.items()
        if isinstance(name, str) and not _BOOKKEEPING.fullmatch(name)
    }


def _plain_attribute(value: Any) -> Any:
    return pickle_values.to_plain(value, budget=_MAX_ATTRIBUTE_BYTES)
