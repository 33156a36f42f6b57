"""What the config dataclasses say about a configuration: its keys, their defaults and meanings.

The dataclasses are the only place where a key is declared. From them come the ConfigDict that
config files start from and the texts of --help.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

import ml_collections
from ml_collections import config_dict

NOT_SET = dataclasses.MISSING


class Key(NamedTuple):
    """One key of a configuration.

    Attributes:
      path: Dotted name, e.g. "gan.gamma".
      hint: Its type as annotated.
      default: Its default, or NOT_SET where the user must say something.
      meaning: Its entry in the Attributes of the dataclass's docstring; "" if it has none.
    """

    path: str
    hint: Any
    default: Any
    meaning: str

    @property
    def is_section(self) -> bool:
        """Whether it holds further keys."""
        return dataclasses.is_dataclass(self.hint)


def keys(cls: type, *, prefix: str = "", default: Any = NOT_SET) -> Iterator[Key]:
    """Walks a config dataclass and those in it.

    Args:
      cls: A dataclass.
      prefix: Dotted name of what it stands for, with a dot at its end, or "".
      default: Instance of it whose values are the defaults; NOT_SET takes those of its fields.

    Yields:
      Its keys as they are declared, each section before what it holds.
    """
    hints, meanings = typing.get_type_hints(cls), attributes(cls)
    for field in dataclasses.fields(cls):
        value = _default_of(field) if default is NOT_SET else getattr(default, field.name)
        meaning = meanings.get(field.name, "")
        key = Key(f"{prefix}{field.name}", hints[field.name], value, meaning)
        yield key
        if key.is_section:
            yield from keys(key.hint, prefix=f"{key.path}.", default=value)


def defaults(cls: type) -> ml_collections.ConfigDict:
    """Makes the configuration in which nothing is changed.

    Keys that may be None, or must be set, are typed placeholders; keys of several types (a number
    or a word) take any value, which `config.resolve` checks.

    Args:
      cls: A dataclass.

    Returns:
      A fresh, unlocked ConfigDict with every key.
    """
    found: Any = ml_collections.ConfigDict()
    for key in keys(cls):
        *sections, name = key.path.split(".")
        holder: Any = found
        for section in sections:
            holder = holder[section]
        holder[name] = ml_collections.ConfigDict() if key.is_section else _entry(key)
    return found


def attributes(cls: type) -> dict[str, str]:
    """Reads the Attributes section of a class's docstring.

    Args:
      cls: A class.

    Returns:
      Text of each attribute in one line; `a, b: ...` describes both.
    """
    text = inspect.cleandoc(cls.__doc__ or "")
    section = re.search(r"^Attributes:\n((?:(?: .*)?\n)*(?: .*)?)", text, re.M)
    found = {}
    for entry in re.split(r"\n  (?=\w)", f"\n{section[1]}" if section else "")[1:]:
        names, _, meaning = entry.partition(":")
        found |= dict.fromkeys(re.split(r",\s*", names), " ".join(meaning.split()))
    return found


def type_text(hint: Any) -> str:
    """Writes a type as users read it.

    Args:
      hint: An annotation.

    Returns:
      E.g. 'float', "float or 'auto'", 'tuple[str, ...]'.
    """
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(repr(word) for word in typing.get_args(hint))
    if _is_union(hint):
        return " or ".join(type_text(option) for option in typing.get_args(hint))
    if hint is type(None):
        return "None"
    return str(hint) if typing.get_args(hint) else getattr(hint, "__name__", str(hint))


def _default_of(field: dataclasses.Field) -> Any:
    """Returns what a field is when nothing is said, or NOT_SET."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _entry(key: Key) -> Any:
    """Returns what a ConfigDict holds for a key, so that it keeps the type it is meant to have."""
    value = None if key.default is NOT_SET else key.default
    options = typing.get_args(key.hint) if _is_union(key.hint) else (key.hint,)
    kinds = {_plain_type(option) for option in options if option is not type(None)}
    if len(kinds) > 1:
        return config_dict.FieldReference(value, field_type=object)
    [kind] = kinds
    if value is None or len(options) > 1:
        return config_dict.FieldReference(value, field_type=kind)
    return float(value) if kind is float else value


def _plain_type(hint: Any) -> type:
    """Returns the type that values of an annotation have at run time."""
    if typing.get_origin(hint) is typing.Literal:
        return type(typing.get_args(hint)[0])
    return typing.get_origin(hint) or hint


def _is_union(hint: Any) -> bool:
    """Tells whether an annotation offers several types."""
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
