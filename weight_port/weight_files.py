"""State dicts of any file that people keep them in, known by its content and not by its name.

torch.save archives and legacy streams, pickles of dicts, safetensors and .npz archives. Nothing in
them is executed, and no file is tried in two ways.
"""

import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import (
    npz_files,
    numpy_pickle,
    pickle_values,
    safe_pickle,
    text_files,
)
from weight_port import torch_modules, torch_pickle, torch_tensors, torch_zip

_MAX_HEADER_BYTES = 1 << 24
_METADATA = "__metadata__"
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "|b1"},
}


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """What a file holds.

    Attributes:
      content: Nested dicts, lists and tuples of plain values and arrays.
      notes: Texts by key, which safetensors files may carry.
    """

    content: Any
    notes: dict[str, str]


def read(path: pathlib.Path) -> WeightFile:
    """Reads a file of weights.

    Args:
      path: The file.

    Returns:
      Its content.

    Raises:
      WeightError: It is missing, damaged, none of these kinds, or asks for more than plain data.

    Source: the formats of torch, NumPy and safetensors.
    """
    buffer = numpy_pickle.open_mapped(path)
    if torch_zip.is_archive(buffer):
        if b".npy" in bytes(buffer[:256]):
            return WeightFile(npz_files.read(path), {})
        return WeightFile(torch_pickle.read_checkpoint(path), {})
    if torch_tensors.is_stream(buffer):
        return WeightFile(torch_pickle.read_checkpoint(path), {})
    try:
        if is_safetensors(buffer):
            return _read_safetensors(buffer)
        if bytes(buffer[:1]) == b"\x80":
            value, _ = safe_pickle.load(buffer, label=str(path), lookup=torch_modules.allowed)
            return WeightFile(pickle_values.to_plain(value, budget=2 * len(buffer)), {})
    except errors.WeightError as error:
        text = str(error)
        named = text if text.startswith(str(path)) else f"{path}: {text}"
        raise errors.WeightError(named) from error
    raise errors.WeightError(
        f"{path}: expected a file of torch.save, a pickle, .safetensors or .npz; got "
        f"{bytes(buffer[:8])!r}... Copy it again, or save the state dict as one of these"
    )


def is_safetensors(buffer: memoryview) -> bool:
    """Tells whether the bytes begin like a safetensors file.

    Args:
      buffer: A file's bytes.

    Returns:
      True for safetensors.

    Source: the safetensors format.
    """
    return len(buffer) > 9 and bytes(buffer[8:9]) == b"{" and bytes(buffer[6:8]) == b"\0\0"


def _read_safetensors(buffer: memoryview) -> WeightFile:
    """Reads tensors that fill the file exactly, as its header says."""
    length = int.from_bytes(buffer[:8], "little")
    if length > min(_MAX_HEADER_BYTES, len(buffer) - 8):
        raise errors.WeightError(f"a safetensors header of {length} bytes is too long; truncated")
    try:
        header = text_files.parse_json(bytes(buffer[8 : 8 + length]))
        if not isinstance(header, dict):
            raise ValueError(f"a {type(header).__name__}")
    except ValueError as error:
        raise errors.WeightError(
            f"expected a safetensors header of JSON; got {error}; damaged file"
        ) from error
    notes = header.pop(_METADATA, {})
    sound = isinstance(notes, dict) and all(isinstance(text, str) for text in notes.values())
    if not sound:
        raise errors.WeightError("the metadata of a safetensors header are no texts; damaged file")
    data, found, end = buffer[8 + length :], {}, 0
    parsed = [(_parse_entry(name, entry), name) for name, entry in header.items()]
    for (begin, stop, kind, shape), name in sorted(parsed):
        if begin != end or stop > len(data):
            shown = pickle_values.printable(name)
            raise errors.WeightError(f"tensor {shown} overlaps another or passes the end; refused")
        flat = numpy_pickle.decode(data[begin:stop], np.dtype(_DTYPES[kind]))
        if kind == "BF16":
            flat = (flat.astype(np.uint32) << np.uint32(16)).view(np.float32)
        found[name], end = flat.reshape(shape), stop
    if end != len(data):
        raise errors.WeightError("data follows the tensors of a safetensors file; damaged file")
    return WeightFile({name: found[name] for name in header}, notes)


def _parse_entry(name: str, entry: Any) -> tuple[int, int, str, tuple[int, ...]]:
    """Checks what a header says of one tensor: begin, end, type and shape."""
    shown = pickle_values.printable(name)
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(entry, dict) or set(entry) != keys or entry["dtype"] not in list(_DTYPES):
        raise errors.WeightError(f"tensor {shown} is of no known type; refused")
    lists = (entry["shape"], entry["data_offsets"])
    if not all(isinstance(value, list) for value in lists) or len(entry["data_offsets"]) != 2:
        raise errors.WeightError(f"tensor {shown} has no shape or place; damaged file")
    shape, (begin, stop) = tuple(entry["shape"]), entry["data_offsets"]
    for numbers in (shape, (begin,), (stop,)):
        numpy_pickle.check_shape(numbers)
    width = np.dtype(_DTYPES[entry["dtype"]]).itemsize
    if stop - begin != width * math.prod(shape):
        raise errors.WeightError(f"tensor {shown} is not as large as its shape; damaged file")
    return begin, stop, entry["dtype"], shape
