"""Writes a flat state dict as torch.save would, without torch.

The file is an uncompressed zip with one pickle that names two functions of torch and one entry a
tensor; `torch.load(path, weights_only=True)` reads it, and so does `torch_pickle.read_checkpoint`.
"""

import pathlib
import struct
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np

from ganavatar_jax.core import errors

_STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
}
_ROOT = "archive"
_REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
_NO_HOOKS = b"ccollections\nOrderedDict\n)R"


def write_archive(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as a torch.save archive that holds one dict of tensors.

    Args:
      path: The file.
      tensors: Arrays by name.

    Raises:
      WeightError: An array's type is not a plain number type of torch.

    Source: torch's serialisation format; opcodes as in the standard library's pickletools.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    pickled = b"\x80\x02}(" + b"".join(_entries(arrays)) + b"u."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry("data.pkl"), pickled)
        archive.writestr(_entry("byteorder"), b"little")
        for index, array in enumerate(arrays.values()):
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            archive.writestr(_entry(f"data/{index}"), little.tobytes())
        archive.writestr(_entry("version"), b"3\n")


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{_ROOT}/{name}")  # dated 1980: equal content gives equal files


def _entries(arrays: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """Writes the opcodes that rebuild each tensor from its storage, as torch itself writes them."""
    for index, (name, array) in enumerate(arrays.items()):
        kind = _STORAGES.get(array.dtype.name)
        if kind is None:
            raise errors.WeightError(f"{name} has type {array.dtype}, which torch files lack")
        storage = (
            b"("
            + _text("storage")
            + f"ctorch\n{kind}\n".encode()
            + _text(str(index))
            + _text("cpu")
            + _integer(array.size)
            + b"tQ"
        )
        strides = tuple(step // array.itemsize for step in array.strides)
        window = _integer(0) + _integers(array.shape) + _integers(strides)
        yield _text(name) + _REBUILD + b"(" + storage + window + b"\x89" + _NO_HOOKS + b"tR"


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _integers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
