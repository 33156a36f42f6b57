"""NumPy's .npz archives from strangers: plain number arrays only, and never more than declared.

`np.load` refuses pickles, but believes a header about how much memory to take and unpacks an
archive however far it grows. Here sizes are added up before anything is unpacked, and an array's
header must be exactly the text NumPy writes and describe exactly the bytes that follow it.
"""

import io
import math
import pathlib
import re
import zipfile
import zlib

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import numpy_pickle, pickle_values

_LIMIT_BYTES = 1 << 30
_MAX_ENTRIES = 10_000
_MAX_HEADER_BYTES = 4096
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?)([a-z]\d{1,2})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,15}, ?)*(?:\d{1,15})?)\), \} *\n"
)
# What zipfile raises for damaged, encrypted or exotic archives.
_DAMAGE = (
    zipfile.BadZipFile,
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    zlib.error,
)


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all arrays of an archive.

    Args:
      path: The .npz file.

    Returns:
      Read-only arrays by name.

    Raises:
      WeightError: The file is missing, damaged, too large, or holds anything but number arrays.

    Source: NumPy's documentation of the .npy format.
    """
    return _read(path, str(path))


def read_bytes(data: bytes, *, label: str) -> dict[str, np.ndarray]:
    """Reads all arrays of an archive that is in memory.

    Args:
      data: The .npz file.
      label: Its name, for messages.

    Returns:
      Read-only arrays by name.

    Raises:
      WeightError: The file is damaged, too large, or holds anything but number arrays.

    Source: NumPy's documentation of the .npy format.
    """
    return _read(io.BytesIO(data), label)


def _read(source: pathlib.Path | io.BytesIO, label: str) -> dict[str, np.ndarray]:
    """Reads all arrays; sizes are added up first."""
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            if len(entries) > _MAX_ENTRIES or sum(e.file_size for e in entries) > _LIMIT_BYTES:
                raise errors.WeightError(
                    f"unpacks to more than {_MAX_ENTRIES} arrays or {_LIMIT_BYTES} bytes; refused"
                )
            found = {}
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name == entry.filename or name in found:
                    shown = pickle_values.printable(entry.filename)
                    raise errors.WeightError(f"entry {shown} is no array, or there twice; refused")
                with archive.open(entry) as file:
                    found[name] = _decode(file.read(entry.file_size), name)
            return found
    except errors.WeightError as error:
        raise errors.WeightError(f"{label}: {error}") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise errors.WeightError(
            f"{label}: expected an .npz of arrays; got {reason:.200}"
        ) from error


def _decode(data: bytes, name: str) -> np.ndarray:
    """Decodes an array by a header of fixed form, because NumPy's own reader evaluates it."""
    shown = pickle_values.printable(name)
    stream = io.BytesIO(data)
    start = stream.read(8)
    width = 2 if start[6:7] == b"\x01" else 4
    length = int.from_bytes(stream.read(width), "little")
    header = stream.read(min(length, _MAX_HEADER_BYTES))
    match = _HEADER.fullmatch(header)
    if start[:6] != _MAGIC or match is None:
        raise errors.WeightError(f"array {shown} is not a plain array of numbers; refused")
    order, code, fortran, sides = match.groups()
    dtype = numpy_pickle.DtypeNode(code.decode()).dtype.newbyteorder(">" if order == b">" else "<")
    shape = tuple(int(side) for side in sides.replace(b" ", b"").split(b",") if side)
    numpy_pickle.check_shape(shape)
    flat = numpy_pickle.decode(data[stream.tell() :], dtype)
    if math.prod(shape) != flat.size:
        raise errors.WeightError(f"array {shown} declares {shape} and holds {flat.size} values")
    return flat.reshape(shape, order="F" if fortran == b"True" else "C")
