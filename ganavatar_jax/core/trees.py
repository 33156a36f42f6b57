"""Small pytree tools: frozen dataclasses that JAX can trace, and flat names for leaves.

`pytree_dataclass` differs from `flax.struct.dataclass` in that unflattening bypasses `__init__`:
placeholders that JAX puts into leaves (`None`, `object()`, `ShapeDtypeStruct`) never meet runtime
type checks.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def pytree_dataclass(cls: type[_T]) -> type[_T]:
    """Makes a frozen dataclass whose fields are all pytree children.

    Args:
      cls: A class with annotated fields.

    Returns:
      The frozen dataclass, registered with JAX.

    Source: jax.tree_util.register_pytree_with_keys.
    """
    import jax  # here: configurations have flat names, too, and start without JAX

    cls = dataclasses.dataclass(frozen=True)(cls)
    names = tuple(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]

    def flatten_with_keys(obj: Any) -> tuple[list[tuple[Any, Any]], None]:
        return [(jax.tree_util.GetAttrKey(name), getattr(obj, name)) for name in names], None

    def unflatten(_: None, children: Any) -> Any:
        obj = object.__new__(cls)
        for name, child in zip(names, children, strict=True):
            object.__setattr__(obj, name, child)
        return obj

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten)
    return cls


def flatten_names(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of a nested dict with dotted names, in the dict's own order.

    Args:
      tree: Nested string-keyed mappings; anything else is a leaf.
      prefix: Name put before every key, without a trailing dot.

    Returns:
      Pairs (dotted name, leaf).
    """
    for key, value in tree.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from flatten_names(value, name)
        else:
            yield name, value


def unflatten_names(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Builds the nested dict whose dotted names are the keys of `flat`.

    Args:
      flat: Mapping from dotted names to leaves.

    Returns:
      Nested dicts; the inverse of `flatten_names`.
    """
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
