"""The portable weight format: one safetensors file with flat names and a checked header.

`{"params": {"a": {"b": x}}, "buffers": {"c": y}}` is stored as tensors "params.a.b" and
"buffers.c". The header holds the caller's metadata and the sha256 of every tensor, which
`load_params` verifies: a file that was cut, edited or made by another program is refused. Nothing
in it can be executed.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ganavatar_jax.core import errors, files, trees

FORMAT = "ganavatar_jax.params/1"
_ENTRY = "ganavatar_jax"  # the key of our JSON in the header
# Metadata that say how weights were made, or repeat the config of their run.
_ORIGIN = ("provenance", "architecture")
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
    # Not copied where that can be avoided: the largest networks fill hundreds of megabytes.
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in trees.flatten_names(variables)}
    header = {
        "format": FORMAT,
        "metadata": dict(metadata),
        "sha256": {name: _digest(tensor) for name, tensor in tensors.items()},
    }
    # One entry only: safetensors writes several in random order.
    entry = {_ENTRY: json.dumps(header, sort_keys=True)}
    with files.atomic_path(path) as temporary:
        try:
            # Written tensor by tensor: the bytes of the whole file would be copied twice.
            temporary.touch()
            mode = temporary.stat().st_mode  # safetensors makes files only their owner may read
            safetensors.numpy.save_file(tensors, temporary, metadata=entry)
            temporary.chmod(mode)
        except safetensors.SafetensorError as error:
            raise files.write_error(path, OSError(str(error))) from error


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
    with _open(path) as file:
        entries = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    header = _read_header(path, entries)
    _check_digests(path, tensors, header["sha256"])
    return trees.unflatten_names(tensors), header["metadata"]


def is_portable(path: str | os.PathLike[str]) -> bool:
    """Tells whether a file is in this format, whole or not.

    Args:
      path: Any file.

    Returns:
      Whether it is a safetensors file with our header.
    """
    try:
        with _open(pathlib.Path(path)) as file:
            return _ENTRY in (file.metadata() or {})
    except errors.WeightError:
        return False


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what was stored with the weights, without reading these.

    Args:
      path: A file made by `save_params`.

    Returns:
      The metadata.

    Raises:
      WeightError: the file is missing or not in this format.

    Source: the safetensors format; header fields are ours.
    """
    path = pathlib.Path(path)
    with _open(path) as file:
        entries = file.metadata() or {}
    return _read_header(path, entries)["metadata"]


def identify(path: str | os.PathLike[str], *, thorough: bool) -> str | None:
    """Computes what is equal for files that hold the same tensors and mean the same by them.

    Args:
      path: A file made by `save_params`.
      thorough: Whether the tensors are read and compared with the header as well.

    Returns:
      Hexadecimal SHA-256, of the header's checksums and metadata but for where the weights come
      from; None where there is no such file, or it is damaged.
    """
    path = pathlib.Path(path)
    try:
        with _open(path) as file:
            header = _read_header(path, file.metadata() or {})
            if thorough:
                _check_digests(path, {n: file.get_tensor(n) for n in file.keys()}, header["sha256"])
    except errors.WeightError:
        return None
    meant = {key: v for key, v in header["metadata"].items() if key not in _ORIGIN}
    text = json.dumps({"sha256": header["sha256"], "metadata": meant}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator[Any]:
    """Opens a safetensors file and turns what the library says of a bad one into our error."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
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


def _check_names(tree: Mapping[str, Any]) -> None:
    for name, value in tree.items():
        if not isinstance(name, str) or "." in name:
            raise ValueError(f"variable names must be strings without a dot; got {name!r}.")
        if isinstance(value, Mapping):
            _check_names(value)


def _read_header(path: pathlib.Path, entries: Mapping[str, str]) -> dict[str, Any]:
    """Reads our part of the header; other writers of safetensors have none."""
    if _ENTRY not in entries:
        raise errors.WeightError(
            f'{path}: expected weights in the format "{FORMAT}"; the header does not name it. '
            f"Convert the file with weight_port first."
        )
    try:
        header = json.loads(entries[_ENTRY])
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']!r}")
        if not (isinstance(header["sha256"], dict) and isinstance(header["metadata"], dict)):
            raise ValueError("sha256 and metadata must be objects")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise errors.WeightError(
            f'{path}: expected a header in the format "{FORMAT}"; got {error}. Convert the file '
            f"again with this version."
        ) from error
    return header


def _check_digests(
    path: pathlib.Path, tensors: Mapping[str, np.ndarray], digests: Mapping[str, Any]
) -> None:
    """Refuses tensors whose bytes are not those that were saved, or whose names clash."""
    branches = {
        name.rsplit(".", depth)[0] for name in tensors for depth in range(1, name.count(".") + 1)
    }
    if clashes := sorted(branches & tensors.keys()):
        raise errors.WeightError(
            f'{path}: "{clashes[0]}" is both a tensor and a group of tensors; the file was not '
            f"written by this program. Convert it again."
        )
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
