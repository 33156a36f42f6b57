"""The portable weight format: one safetensors file with flat names and a checked header.

`{"params": {"a": {"b": x}}, "buffers": {"c": y}}` is stored as tensors "params.a.b" and
"buffers.c". The header holds the caller's metadata and the sha256 of every tensor, which
`load_params` verifies: a file that was cut, edited or made by another program is refused. Nothing
in it can be executed.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ganavatar_jax.core import errors, files, trees

FORMAT = "ganavatar_jax.params/1"
_LISTED = 4  # names shown of each kind of mismatch, so that the message stays one line


def save_params(
    path: str | os.PathLike[str], variables: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    """Writes nested variables as one portable weight file, whole or not at all.

    Args:
      path: The file, usually `*.safetensors`.
      variables: Nested string-keyed mappings of arrays, e.g. {"params": ..., "buffers": ...}.
      metadata: JSON-serialisable facts to keep with the weights (config, source, licence).

    Raises:
      ValueError: a name contains a dot, which would make flat names ambiguous.
      RunError: the file cannot be written.

    Source: the safetensors format; header fields are ours.
    """
    _check_names(variables)
    tensors = {
        name: np.array(leaf, order="C", ndmin=0) for name, leaf in trees.flatten_names(variables)
    }
    header = {
        "format": FORMAT,
        "metadata": json.dumps(metadata, sort_keys=True),
        "sha256": json.dumps({name: _digest(tensor) for name, tensor in tensors.items()}),
    }
    files.write_atomic(path, safetensors.numpy.save(tensors, metadata=header))


def load_params(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a portable weight file back after checking every tensor's sha256.

    Args:
      path: A file made by `save_params`.

    Returns:
      variables: Nested dicts of NumPy arrays.
      metadata: What was stored with them.

    Raises:
      WeightError: the file is missing, not in this format, or its content is damaged.

    Source: the safetensors format; header fields are ours.
    """
    path = pathlib.Path(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except OSError as error:
        reason = error.strerror or "no such file, or not readable"
        raise errors.WeightError(
            f"{path}: weight file cannot be read ({reason}); check the path."
        ) from error
    except (safetensors.SafetensorError, TypeError, KeyError) as error:
        raise errors.WeightError(
            f"{path}: expected a safetensors file; it is damaged or of another kind ({error}). "
            f"Copy or convert it again."
        ) from error
    if header.get("format") != FORMAT:
        raise errors.WeightError(
            f'{path}: expected weights in the format "{FORMAT}"; the header says '
            f'"{header.get("format", "nothing")}". Convert the file with weight_port first.'
        )
    try:
        digests, metadata = json.loads(header["sha256"]), json.loads(header["metadata"])
        _check_digests(path, tensors, digests)
        return trees.unflatten_names(tensors), metadata
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise errors.WeightError(
            f"{path}: the header or the tensor names are malformed ({error}); the file was not "
            f"written by this program as it is. Copy or convert it again."
        ) from error


def check_fit(
    expected: Mapping[str, Any], found: Mapping[str, Any], *, what: str, compare_dtypes: bool = True
) -> None:
    """Checks that flat named arrays have exactly the names, shapes and dtypes that are expected.

    Args:
      expected: Flat name -> anything with `shape` and `dtype`, what the network needs.
      found: Flat name -> anything with `shape` and `dtype`, what the file holds.
      what: Names the file, for the message.
      compare_dtypes: False lets the caller cast.

    Raises:
      WeightError: lists missing, unexpected and mismatching names in one line.

    Source: ours; the three lists after big_vision's merge_params.
    """

    def describe(leaf: Any) -> str:
        shape = "x".join(str(size) for size in leaf.shape) or "scalar"
        return f"{shape} {leaf.dtype}" if compare_dtypes else shape

    missing = [f"{name} ({describe(expected[name])})" for name in expected if name not in found]
    unexpected = [f"{name} ({describe(found[name])})" for name in found if name not in expected]
    mismatched = [
        f"{name} (expected {describe(expected[name])}, found {describe(found[name])})"
        for name in expected
        if name in found and describe(expected[name]) != describe(found[name])
    ]
    parts = [
        f"{len(names)} {kind}: {', '.join(names[:_LISTED])}{', ...' * (len(names) > _LISTED)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape or type", mismatched),
        )
        if names
    ]
    if parts:
        raise errors.WeightError(
            f"{what} does not fit the networks of this config: {'; '.join(parts)}. Use the config "
            f"it was made with."
        )


def _check_names(tree: Mapping[str, Any]) -> None:
    for name, value in tree.items():
        if not isinstance(name, str) or "." in name:
            raise ValueError(f"variable names must be strings without a dot; got {name!r}.")
        if isinstance(value, Mapping):
            _check_names(value)


def _check_digests(
    path: pathlib.Path, tensors: Mapping[str, np.ndarray], digests: Mapping[str, str]
) -> None:
    damaged = sorted(
        name
        for name in tensors.keys() | digests.keys()
        if name not in tensors or digests.get(name) != _digest(tensors[name])
    )
    if damaged:
        raise errors.WeightError(
            f"{path}: sha256 of {len(damaged)} tensor(s) differs from the header, first "
            f'"{damaged[0]}"; the file is damaged, copy or convert it again.'
        )


def _digest(tensor: np.ndarray) -> str:
    digest = hashlib.sha256(f"{tensor.dtype.str}{tensor.shape}".encode())
    digest.update(tensor.tobytes())
    return digest.hexdigest()
