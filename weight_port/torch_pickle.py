"""Network snapshots and checkpoints of PyTorch, read without torch and without running them.

An EG3D snapshot is a pickle whose objects carry the source text of their classes; the original
loader executes that text. Here every module becomes an inert `ModuleNode` (a class name and a state
dict), the text is dropped, and a global outside the allow-list below ends the reading with an error
that names it. There is no fallback to another loader.
"""

import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from ganavatar_jax.core import errors, numpy_pickle, pickle_values, safe_pickle
from weight_port import torch_tensors, torch_zip

_BOOKKEEPING = re.compile(
    r"training|_parameters|_buffers|_modules|_non_persistent_buffers_set|_is_full_backward_hook"
    r"|_.*hooks(_with_kwargs|_always_called)?"
)
_RESAVED_MODULE = re.compile(r"_imported_module_[0-9a-f]{1,64}")
_MAX_MODULES = 10_000
_MAX_TENSORS = 100_000
_MAX_ATTRIBUTE_BYTES = 1 << 24


class PlainMap(pickle_values.MapNode):
    """Stands for dnnlib.util.EasyDict: a dict whose state is more items."""

    def set_state(self, state: Any) -> None:
        """Adds items.

        Args:
          state: A dict.

        Raises:
          WeightError: It is not a dict.

        Source: EG3D reference behaviour (item-based set-state).
        """
        if not isinstance(state, dict):
            super().set_state(state)
        self.update(state)


class ModuleNode(pickle_values.Node):
    """A pickled torch module: its class name and its attributes, inert."""

    def __init__(self, class_name: str, state: dict[str, Any] | None = None) -> None:
        """Makes the node.

        Args:
          class_name: Name of the class, without its module.
          state: The object's attributes; None until the pickle sets them.
        """
        self.class_name = class_name
        self._state = state

    def set_state(self, state: Any) -> None:
        """Stores the attributes.

        Args:
          state: The object's attribute dict.

        Raises:
          WeightError: It is not a dict, or the object has its attributes already.

        Source: ours.
        """
        if self._state is not None or not isinstance(state, dict):
            super().set_state(state)
        self._state = state

    def children(self) -> tuple[Any, ...]:
        """Lists the attributes' values.

        Returns:
          The one attribute dict, or nothing.

        Source: ours.
        """
        return () if self._state is None else (self._state,)

    def to_plain(self) -> Any:
        """Refuses: a module is no plain data.

        Returns:
          Nothing.

        Raises:
          WeightError: Always.

        Source: ours.
        """
        raise errors.WeightError(
            f"holds a whole {self.class_name} module where plain data should be; only state dicts "
            "can be read here"
        )

    @property
    def state(self) -> dict[str, Any]:
        """All attributes, bookkeeping included."""
        if self._state is None:
            raise errors.WeightError(f"module {self.class_name} carries no state; damaged file")
        return self._state

    def members(self, field: str) -> dict[str, Any]:
        """Returns one of the module's registries.

        Args:
          field: "_parameters", "_buffers" or "_modules".

        Returns:
          The registry without its None entries.

        Raises:
          WeightError: The registry is missing or not a dict with plain names.

        Source: torch.nn.Module's layout.
        """
        registry = self.state.get(field)
        if not isinstance(registry, dict):
            raise errors.WeightError(f"module {self.class_name} has no {field}; damaged file")
        for name in registry:
            if not isinstance(name, str) or not name or "." in name:
                raise errors.WeightError(
                    f"module {self.class_name} has a {field} entry without a plain name; refused"
                )
        return {name: value for name, value in registry.items() if value is not None}

    def child(self, name: str) -> "ModuleNode":
        """Returns a direct child module.

        Args:
          name: Its name in the module.

        Returns:
          The child.

        Raises:
          WeightError: There is no such module.

        Source: ours.
        """
        found = self.members("_modules").get(name)
        if not isinstance(found, ModuleNode):
            raise errors.WeightError(f"module {self.class_name} has no child module {name}")
        return found


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The objects of a snapshot file by name: G, D, G_ema, training_set_kwargs, augment_pipe."""

    path: pathlib.Path
    entries: dict[str, Any]

    def __getitem__(self, name: str) -> ModuleNode:
        """Returns a network of the snapshot; WeightError if there is none of that name."""
        found = self.entries.get(name)
        if not isinstance(found, ModuleNode):
            there = [key for key, value in self.entries.items() if isinstance(value, ModuleNode)]
            raise errors.WeightError(
                f"{self.path}: holds no network {name}; there are: {', '.join(there) or 'none'}"
            )
        return found


def _make_persistent(meta: Any) -> ModuleNode:
    """Keeps class name and state of a persistent object and drops its source text."""
    sound = isinstance(meta, dict) and meta.get("type") == "class"
    if not sound or not isinstance(meta.get("state"), dict):
        raise errors.WeightError("a persistent object is not a class with state; refused")
    name = meta.get("class_name")
    if not isinstance(name, str) or not name.isidentifier() or len(name) > 100:
        raise errors.WeightError("a persistent object has no proper class name; refused")
    return ModuleNode(name, meta["state"])


def _make_ordered(items: Any = ()) -> pickle_values.OrderedMap:
    pairs = [(pickle_values.checked_key(key), value) for key, value in items]
    return pickle_values.OrderedMap(pairs)


def _make_set(items: Any = ()) -> set[Any]:
    return {pickle_values.checked_key(item) for item in items}


def _module_rule(class_name: str) -> pickle_values.Rule:
    return pickle_values.Rule(new=lambda: ModuleNode(class_name))


_INERT = pickle_values.Rule()
_TENSOR = pickle_values.Rule(call=torch_tensors.Tensor)
_PARAMETER = pickle_values.Rule(call=torch_tensors.make_parameter)
_SET = pickle_values.Rule(call=_make_set)
_OWN_MODULES = {
    "OSGDecoder": "training.triplane",
    "ImportanceRenderer": "training.volumetric_rendering.renderer",
    "RaySampler": "training.volumetric_rendering.ray_sampler",
    "MipRayMarcher2": "training.volumetric_rendering.ray_marcher",
}
_TORCH_DTYPES = (
    "float16 float32 float64 bfloat16 uint8 int8 int16 int32 int64 bool "
    "half float double long int short"
).split()

RULES = {
    **numpy_pickle.NUMPY_RULES,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): pickle_values.Rule(
        call=_make_persistent
    ),
    ("torch._utils", "_rebuild_parameter"): _PARAMETER,
    ("torch._utils", "_rebuild_parameter_with_state"): _PARAMETER,
    ("torch._utils", "_rebuild_tensor"): pickle_values.Rule(call=torch_tensors.make_contiguous),
    ("torch._utils", "_rebuild_tensor_v2"): _TENSOR,
    ("torch.storage", "_load_from_bytes"): pickle_values.Rule(
        call=torch_tensors.read_embedded_storage
    ),
    ("collections", "OrderedDict"): pickle_values.Rule(call=_make_ordered),
    ("dnnlib.util", "EasyDict"): pickle_values.Rule(call=PlainMap, new=PlainMap),
    ("builtins", "set"): _SET,
    ("__builtin__", "set"): _SET,
    ("torch", "Size"): pickle_values.Rule(call=tuple),
    ("torch", "device"): pickle_values.Rule(call=lambda *parts: tuple(parts)),
    **{("torch", name): _INERT for name in _TORCH_DTYPES},
    **{(module, name): _module_rule(name) for name, module in _OWN_MODULES.items()},
    ("torch.nn.modules.container", "Sequential"): _module_rule("Sequential"),
    ("torch.nn.modules.activation", "Softplus"): _module_rule("Softplus"),
}


def allowed(module: str, name: str) -> pickle_values.Rule | None:
    """Looks a global up on the allow-list.

    Args:
      module: Module part of the name.
      name: Name inside the module.

    Returns:
      What it may be used for; None if it is not allowed.

    Source: ours; the globals observed in EG3D snapshots of old and new torch versions.
    """
    if name in _OWN_MODULES and _RESAVED_MODULE.fullmatch(module):
        return _module_rule(name)  # a network that was loaded and saved again
    return RULES.get((module, name))


def read_snapshot(path: str | pathlib.Path) -> Snapshot:
    """Reads a network snapshot (`network-snapshot-*.pkl`); the modules in it are inert.

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
    buffer = numpy_pickle.open_mapped(path)
    if torch_zip.is_archive(buffer) or torch_tensors.is_stream(buffer):
        raise errors.WeightError(f"{path}: is a torch.save or zip file, not a snapshot pickle")
    value, end = safe_pickle.load(buffer, label=str(path), lookup=allowed)
    if not isinstance(value, dict) or end != len(buffer):
        raise errors.WeightError(f"{path}: is not one dict of networks; not an EG3D snapshot")
    return Snapshot(path, value)


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
        value = torch_zip.read_archive(path, buffer, allowed)
    else:
        stream = torch_tensors.StreamReader(buffer, str(path), allowed)
        value = stream.read(pickle_values.Limits())
    try:
        return pickle_values.to_plain(value, budget=2 * len(buffer))
    except errors.WeightError as error:
        raise errors.WeightError(f"{path}: {error}") from error


def state_dict(module: ModuleNode) -> dict[str, np.ndarray]:
    """Collects a module's parameters and persistent buffers under their dotted names.

    Args:
      module: A module of a snapshot.

    Returns:
      Owned arrays by name, in the module's own order.

    Raises:
      WeightError: The module is not laid out like a torch module, or holds more than its file can.

    Source: torch.nn.Module.state_dict.
    """
    return {name: tensor.to_plain() for name, tensor in named_tensors(module).items()}


def named_tensors(module: ModuleNode) -> dict[str, torch_tensors.Tensor]:
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


def _walk(module: ModuleNode) -> Iterator[tuple[str, ModuleNode]]:
    """Yields (dotted prefix, module), parents first; a shared module is met once per path."""
    pending = [("", module)]
    for _ in range(_MAX_MODULES):
        if not pending:
            return
        prefix, node = pending.pop(0)
        yield prefix, node
        for name, child in node.members("_modules").items():
            if not isinstance(child, ModuleNode):
                raise errors.WeightError(f"{prefix}{name} is not a module; damaged file")
            pending.append((f"{prefix}{name}.", child))
        if len(pending) > _MAX_MODULES:
            break
    raise errors.WeightError(f"more than {_MAX_MODULES} modules; refused")


def _own_tensors(node: ModuleNode) -> dict[str, Any]:
    transient = node.state.get("_non_persistent_buffers_set", set())
    buffers = node.members("_buffers")
    kept = {name: value for name, value in buffers.items() if name not in transient}
    return {**node.members("_parameters"), **kept}


def attributes(module: ModuleNode) -> dict[str, Any]:
    """Returns a module's own attributes, without torch's registries and hooks.

    Args:
      module: A module of a snapshot.

    Returns:
      Attributes by name: plain values, arrays for tensors, modules as they are.

    Raises:
      WeightError: An attribute cannot be shown as plain data.

    Source: ours.
    """
    return {
        name: value if isinstance(value, ModuleNode) else _plain_attribute(value)
        for name, value in module.state.items()
        if isinstance(name, str) and not _BOOKKEEPING.fullmatch(name)
    }


def _plain_attribute(value: Any) -> Any:
    return pickle_values.to_plain(value, budget=_MAX_ATTRIBUTE_BYTES)
