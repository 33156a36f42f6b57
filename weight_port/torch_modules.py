"""What a network snapshot may consist of: inert modules, and the allow-list of its globals.

Every object of a network becomes a `ModuleNode`, a class name with a state dict; the source text
that EG3D stores beside it is dropped. A global that is not in `RULES` does not exist.
"""

import re
from typing import Any

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import numpy_pickle, pickle_values
from weight_port import torch_tensors

_RESAVED_MODULE = re.compile(r"_imported_module_[0-9a-f]{1,64}")


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
        """
        if self._state is not None or not isinstance(state, dict):
            super().set_state(state)
        self._state = state

    def children(self) -> tuple[Any, ...]:
        """Lists the attributes' values.

        Returns:
          The one attribute dict, or nothing.
        """
        return () if self._state is None else (self._state,)

    def to_plain(self) -> Any:
        """Refuses: a module is no plain data.

        Returns:
          Nothing.

        Raises:
          WeightError: Always.
        """
        raise errors.WeightError(
            f"holds a whole {self.class_name} module where plain data should be; only state dicts "
            "can be read here"
        )

    @property
    def state(self) -> dict[str, Any]:
        """All attributes, bookkeeping included.

        Raises:
          WeightError: The pickle never set them.
        """
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
        """
        found = self.members("_modules").get(name)
        if not isinstance(found, ModuleNode):
            raise errors.WeightError(f"module {self.class_name} has no child module {name}")
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
    ("torch.nn.parallel.data_parallel", "DataParallel"): _module_rule("DataParallel"),
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
