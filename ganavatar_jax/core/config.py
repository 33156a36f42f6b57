"""Turns a ConfigDict (what configs/*.py hold) into frozen dataclasses (what the code takes).

The dataclass beside the code it configures is the schema: unknown, missing and mistyped keys
raise `ConfigError` with the dotted key and, for a typo, the nearest known key.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import ml_collections

from ganavatar_jax.core import config_schema, errors

_T = TypeVar("_T")
_SECTIONS = (Mapping, ml_collections.ConfigDict)  # a ConfigDict is no Mapping


def resolve(
    cls: type[_T], values: Mapping[str, Any] | ml_collections.ConfigDict, *, path: str = "config"
) -> _T:
    """Builds a config dataclass from a mapping, checking every key and type.

    Args:
      cls: A dataclass; fields may be nested dataclasses, scalars, tuples, Literals, unions.
      values: Mapping of field names to values, e.g. a ConfigDict.
      path: Dotted name of the mapping, for messages.

    Returns:
      An instance of cls.

    Raises:
      ConfigError: a key is unknown or missing, or a value has the wrong type; or the
        dataclass's own `__post_init__` refused the values with a ValueError.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known keys: {', '.join(fields)}."
            raise errors.ConfigError(f'{path}.{key}: unknown key "{key}"; {hint}')
    kwargs = {}
    for name, field in fields.items():
        if name in values:
            kwargs[name] = _coerce(hints[name], values[name], f"{path}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise errors.ConfigError(
                f"{path}.{name}: required key is missing; set it in the config file "
                f"or with --{path}.{name}=..."
            )
    try:
        return cls(**kwargs)
    except ValueError as error:
        raise errors.ConfigError(f"{path}: {error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """Turns a config dataclass back into plain nested dicts (JSON-serialisable).

    Args:
      config: A dataclass made by `resolve`.

    Returns:
      Nested dicts of plain values.
    """
    return dataclasses.asdict(config)


def _coerce(hint: Any, value: Any, path: str) -> Any:
    """Checks a value against its type hint, since a ConfigDict keeps whatever it is given."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if not isinstance(value, _SECTIONS):
            raise _mistyped(path, "a section of keys", value)
        return resolve(hint, value, path=path)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(args, value, path)
    if origin is typing.Literal:
        if value not in args:
            raise _mistyped(path, "one of " + ", ".join(repr(a) for a in args), value)
        return value
    if origin is tuple:
        return _coerce_tuple(args, value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is type(None):
        if value is not None:
            raise _mistyped(path, "None", value)
        return None
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise _mistyped(path, hint.__name__, value)
    return value


def _coerce_union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    # The section-typed option reports its own keys best, so it goes last and may raise.
    plain = [o for o in options if not dataclasses.is_dataclass(o)]
    for option in plain:
        try:
            return _coerce(option, value, path)
        except errors.ConfigError:
            continue
    for option in options:
        if dataclasses.is_dataclass(option) and isinstance(value, _SECTIONS):
            return _coerce(option, value, path)
    names = " or ".join(config_schema.type_text(option) for option in options)
    raise _mistyped(path, names, value)


def _coerce_tuple(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _mistyped(path, "a list", value)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_coerce(args[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if len(value) != len(args):
        raise _mistyped(path, f"{len(args)} values", value)
    return tuple(
        _coerce(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True))
    )


def _mistyped(path: str, expected: str, value: Any) -> errors.ConfigError:
    return errors.ConfigError(
        f"{path}: expected {expected}; got {value!r} ({type(value).__name__}). Fix it in the "
        f"config file or on the command line."
    )
