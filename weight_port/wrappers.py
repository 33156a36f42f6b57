"""Finds a network's state dict inside what training scripts save around it, by name alone.

Around the names of tensors: `module.` of (distributed) data parallelism and `_orig_mod.` of
compiled modules, at any place. Around the state dict: one level, e.g. {"state_dict": ...},
{"model": ...}, {"G_ema": ...}, {"epoch": 3, "net": ...}. Half and double precision become float32.
What fits in two ways, or in none, is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import pickle_values
from weight_port import state_dicts

_WRAPPERS = frozenset(("module", "_orig_mod"))
_FLOATS = ("float16", "float64")


class Found(NamedTuple):
    """A state dict.

    Attributes:
      tensors: Arrays by the network's own names.
      entry: The entry it lay in; "" where nothing is around it.
      left_out: Names of the other entries.
    """

    tensors: dict[str, Any]
    entry: str
    left_out: list[str]


def unwrap(content: Any, signs: Sequence[str], *, what: str, entries: Sequence[str] = ()) -> Found:
    """Finds the state dict that holds some names.

    Args:
      content: What a file holds.
      signs: Names of tensors that tell the network.
      what: Names the network, for messages.
      entries: Entries to look in; the first that fits is taken. None looks in all of them.

    Returns:
      The state dict, whose floats are float32.

    Raises:
      WeightError: There is none, or several; names what was expected and found.

    Source: the names that torch's wrappers give.
    """
    if not isinstance(content, dict):
        raise errors.WeightError(
            f"expected the state dict of {what} ({', '.join(signs)}, ...); got a "
            f"{type(content).__name__}"
        )
    around = {"": content}
    around |= {str(key): value for key, value in content.items() if isinstance(value, dict)}
    names = [name for name in entries if name in around] or list(around)
    fitting = {}
    for name in names:
        tensors = strip(around[name])
        if all(sign in tensors for sign in signs):
            fitting[name] = tensors
    if entries:
        fitting = dict(list(fitting.items())[:1])
    if len(fitting) != 1:
        raise errors.WeightError(_describe(content, signs, what, list(fitting)))
    ((entry, tensors),) = fitting.items()
    others = sorted(str(key) for key in content if str(key) != entry) if entry else []
    return Found(as_float32(tensors), entry, others)


def strip(tensors: Mapping[Any, Any]) -> dict[Any, Any]:
    """Takes the names of wrappers out of the names of tensors.

    Args:
      tensors: Values by dotted name.

    Returns:
      The same values by the names that the network itself gives them.

    Raises:
      WeightError: Two tensors get the same name.
    """
    found: dict[Any, Any] = {}
    for name, value in tensors.items():
        bare = name
        if isinstance(name, str):
            bare = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if bare in found:
            shown = pickle_values.printable(str(bare))
            raise errors.WeightError(f"tensor {shown} is there with and without a wrapper's prefix")
        found[bare] = value
    return found


def as_float32(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Brings half and double precision to float32; counters and the rest stay.

    Args:
      tensors: Values by name.

    Returns:
      The same, arrays of floats in float32.

    Raises:
      WeightError: A number is beyond float32.
    """
    found = dict(tensors)
    for name, value in tensors.items():
        if isinstance(value, np.ndarray) and str(value.dtype) in _FLOATS:
            with np.errstate(over="ignore"):
                found[name] = value.astype(np.float32)
            if not np.array_equal(np.isfinite(value), np.isfinite(found[name])):
                shown = pickle_values.printable(name)
                raise errors.WeightError(f"{shown} holds numbers beyond float32; refused")
    return found


def _describe(content: dict[Any, Any], signs: Sequence[str], what: str, fitting: list[str]) -> str:
    expected = f"expected the state dict of {what} ({', '.join(signs)}, ...)"
    if fitting:
        shown = ", ".join(pickle_values.printable(name or "the file itself") for name in fitting)
        return f"{expected} once; got it in {shown}. Keep one of them"
    inner = [
        f"{pickle_values.printable(str(key))} ({state_dicts.describe_keys(value)})"
        for key, value in content.items()
        if isinstance(value, dict)
    ]
    more = f"; in {'; in '.join(inner[:2])}" if inner else ""
    return f"{expected}; got {state_dicts.describe_keys(content)}{more}"
