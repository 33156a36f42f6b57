"""Checking flat state dicts against what a network needs: missing, unexpected, misshapen."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import pickle_values

Spec = tuple[tuple[int, ...], str]  # shape and type
_LISTED = 8  # names shown of each kind of mismatch, so that the message stays one line


def check(tensors: Mapping[Any, Any], expected: Mapping[str, Spec], what: str) -> None:
    """Insists that a state dict holds exactly the tensors of a network.

    Args:
      tensors: Arrays by name.
      expected: Shape and type by name.
      what: Names the state dict, for the message.

    Raises:
      WeightError: Lists what is missing, unexpected and of a wrong shape or type, in one line.

    Source: ours; the three lists after big_vision's merge_params.
    """
    missing = [name for name in expected if name not in tensors]
    unexpected = [pickle_values.printable(name) for name in tensors if name not in expected]
    misshapen = [
        f"{name} (expected {_describe(*expected[name])}, found {_describe_value(tensors[name])})"
        for name in expected
        if name in tensors and _spec(tensors[name]) != expected[name]
    ]
    if missing or unexpected or misshapen:
        raise errors.WeightError(
            f"{what}: the tensors do not fit the architecture; missing {listing(missing)}; "
            f"unexpected {listing(unexpected)}; wrong shape {listing(misshapen)}"
        )


def listing(names: list[str]) -> str:
    """Words a list of names shortly.

    Args:
      names: Names.

    Returns:
      Their number and the first of them.
    """
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"({len(names)}): {', '.join(names[:_LISTED])}{more}" if names else "(0): none"


def describe_keys(value: Any) -> str:
    """Words what a file holds, for a message.

    Args:
      value: What was read from it.

    Returns:
      Its first keys if it is a dict, else its type.
    """
    if not isinstance(value, dict):
        return f"a {type(value).__name__}"
    names = [pickle_values.printable(str(key)) for key in value]
    return f"a dict with the keys {listing(names)}"


def _spec(value: Any) -> Spec | None:
    return (value.shape, str(value.dtype)) if isinstance(value, np.ndarray) else None


def _describe_value(value: Any) -> str:
    spec = _spec(value)
    return f"a {type(value).__name__}" if spec is None else _describe(*spec)


def _describe(shape: tuple[int, ...], dtype: str) -> str:
    return f"{'x'.join(map(str, shape)) or 'scalar'} {dtype}"
