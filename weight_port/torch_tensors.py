"""Tensors and storages as torch pickles them, turned into numpy arrays without torch.

A tensor in a pickle is a strided window on a storage. Here a storage is a view of the file's bytes
(or, while a stream is still being read, a promise of them) and a tensor is decoded when it is asked
for. Names follow torch: offset, size and stride are counted in elements.
"""

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.readers import numpy_pickle, pickle_values, safe_pickle

STREAM_MAGIC = 0x1950A86A20F9469CFC6C  # first value of a torch.save stream
_STREAM_PROTOCOL = 1001
_STREAM_START = b"\x80\x02\x8a\x0a" + STREAM_MAGIC.to_bytes(10, "little") + b"."
_STREAM_LIMITS = pickle_values.Limits(opcodes=1000, depth=8, stack=100)
_NO_RULE = pickle_values.Rule()

STORAGE_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",  # decoded to float32, which holds every bfloat16 exactly
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}


def is_stream(buffer: memoryview) -> bool:
    """Tells whether the bytes begin like a legacy torch.save stream.

    Args:
      buffer: A file's bytes.

    Returns:
      True for a stream.

    Source: torch's legacy serialisation format.
    """
    return bytes(buffer[: len(_STREAM_START)]) == _STREAM_START


class Storage(pickle_values.Node):
    """A flat run of numbers; `fetch` returns its bytes."""

    def __init__(self, kind: str, length: int, fetch: Callable[[], memoryview]) -> None:
        """Remembers where the numbers are.

        Args:
          kind: Name of torch's storage class, a key of STORAGE_DTYPES.
          length: Number of elements, as declared.
          fetch: Returns the bytes.
        """
        self.kind = kind
        self.length = length
        self.dtype = np.dtype(STORAGE_DTYPES[kind])
        self._fetch = fetch

    @property
    def nbytes(self) -> int:
        """Bytes in the file, as declared."""
        return self.length * self.dtype.itemsize

    @property
    def address(self) -> int:
        """Where its bytes are in memory: equal for storages made twice from the same bytes."""
        return self.decode().__array_interface__["data"][0]

    def decode(self) -> np.ndarray:
        """Views the storage as a one-dimensional array.

        Returns:
          Read-only numbers in the machine's byte order.

        Raises:
          WeightError: The bytes are fewer or more than declared.
        """
        data = self._fetch()
        if len(data) != self.nbytes:
            raise errors.WeightError(
                f"a {self.kind} of {self.length} values comes with {len(data)} bytes; damaged file"
            )
        return numpy_pickle.decode(data, self.dtype)


class Tensor(pickle_values.Node):
    """A window on a storage, checked against the storage's length when it is made."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> None:
        """Checks that every element lies inside the storage.

        Args:
          storage: A Storage.
          offset: Index of the first element.
          size: Tuple of side lengths.
          stride: Tuple of steps, one a side.
          *rest: requires_grad, hooks and metadata; without meaning here.
        """
        del rest
        if not isinstance(storage, Storage):
            raise errors.WeightError("a tensor has no storage; damaged pickle")
        numpy_pickle.check_shape(size)
        numpy_pickle.check_shape(stride)  # non-negative, too
        numpy_pickle.check_shape((offset,))
        if len(size) != len(stride):
            raise errors.WeightError(f"a tensor has {len(size)} sides and {len(stride)} strides")
        count = math.prod(size)
        last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
        if count > storage.length or (count and last >= storage.length):
            raise errors.WeightError(
                f"a tensor of shape {size}, strides {stride}, offset {offset} does not fit its "
                f"storage of {storage.length} values; refused"
            )
        self.storage = storage
        self.offset = offset
        self.shape: tuple[int, ...] = size
        self._stride = stride

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded array."""
        width = 4 if self.storage.kind == "BFloat16Storage" else self.storage.dtype.itemsize
        return math.prod(self.shape) * width

    def to_plain(self) -> np.ndarray:
        """Decodes the tensor.

        Returns:
          An owned, writeable, C-contiguous array of the tensor's shape; bfloat16 comes as float32.

        Raises:
          WeightError: The storage's bytes do not match its declaration.
        """
        flat = self.storage.decode()
        if not math.prod(self.shape):
            return np.zeros(self.shape, flat.dtype)
        strides = tuple(step * flat.itemsize for step in self._stride)
        window = np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, strides, writeable=False
        )
        if self.storage.kind == "BFloat16Storage":
            return (window.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return window.copy(order="C")


def make_contiguous(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    """Stands for torch._utils._rebuild_tensor, the oldest spelling.

    Args:
      storage: A Storage.
      offset: Index of the first element.
      size: Tuple of side lengths.
      stride: Tuple of steps.

    Returns:
      The tensor.

    Raises:
      WeightError: The window leaves the storage.

    Source: torch's pickle layout.
    """
    return Tensor(storage, offset, size, stride)


def make_parameter(tensor: Any, *rest: Any) -> Tensor:
    """Stands for torch._utils._rebuild_parameter: a parameter is its tensor.

    Args:
      tensor: A Tensor.
      *rest: requires_grad, hooks and (in some files) state; without meaning here.

    Returns:
      The tensor.

    Raises:
      WeightError: The first argument is no tensor.

    Source: torch's pickle layout.
    """
    del rest
    if not isinstance(tensor, Tensor):
        raise errors.WeightError("a parameter holds no tensor; damaged pickle")
    return tensor


def storage_lookup(module: str, name: str) -> pickle_values.Rule | None:
    """Allows torch's typed storage classes, as inert names.

    Args:
      module: Module part of a global.
      name: Name part of a global.

    Returns:
      A rule that permits no call, or None for any other global.

    Source: torch's pickle layout.
    """
    return _NO_RULE if module == "torch" and name in STORAGE_DTYPES else None


def parse_storage_id(value: Any) -> tuple[str, str, int]:
    """Checks a persistent id of torch.save.

    Args:
      value: The tuple ("storage", class, key, location, length[, view]).

    Returns:
      kind: Name of the storage class.
      key: Name of the storage in its stream or archive.
      length: Number of elements.

    Raises:
      WeightError: The tuple has another form.

    Source: torch's serialisation format.
    """
    if not isinstance(value, tuple) or len(value) not in (5, 6) or value[0] != "storage":
        raise errors.WeightError("a persistent id is not a torch storage; refused")
    cls, key, _, length = value[1:5]
    if not isinstance(cls, pickle_values.Global) or cls.name not in STORAGE_DTYPES:
        raise errors.WeightError("a storage has an unknown class; refused")
    if not isinstance(key, str) or (len(value) == 6 and value[5] is not None):
        raise errors.WeightError("a storage has no plain key, or is a view of another; refused")
    numpy_pickle.check_shape((length,))
    return cls.name, key, length


class StreamReader:
    """A legacy torch.save stream: five pickles, then the storages, all in one run of bytes."""

    def __init__(self, buffer: memoryview, label: str, lookup: pickle_values.Lookup) -> None:
        """Prepares to read; nothing is parsed yet.

        Args:
          buffer: The whole stream.
          label: Name for messages.
          lookup: Globals allowed in the stream's main pickle, besides the storage classes.
        """
        self._buffer = buffer
        self._label = label
        self._lookup = lookup
        self._declared: dict[str, Storage] = {}
        self._data: dict[str, memoryview] = {}

    def read(self, limits: pickle_values.Limits = _STREAM_LIMITS) -> Any:
        """Reads the stream.

        Args:
          limits: Bounds for the main pickle.

        Returns:
          The value of the main pickle; its storages are filled.

        Raises:
          WeightError: The stream is damaged or asks for a global that is not allowed.

        Source: torch's legacy serialisation format.
        """
        position = self._read_header()
        value, position = safe_pickle.load(
            self._buffer,
            start=position,
            label=self._label,
            lookup=lambda module, name: storage_lookup(module, name) or self._lookup(module, name),
            persistent=self._declare,
            limits=limits,
        )
        keys, position = self._read_plain(position)
        unique = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        if not unique or sorted(keys) != sorted(self._declared):
            raise errors.WeightError(f"{self._label}: the list of storages is wrong; damaged file")
        for key in keys:
            position = self._read_storage(key, position)
        if position != len(self._buffer):
            raise errors.WeightError(
                f"{self._label}: {len(self._buffer) - position} bytes follow the last storage"
            )
        return value

    def _read_plain(self, position: int) -> tuple[Any, int]:
        return safe_pickle.load(
            self._buffer,
            start=position,
            label=self._label,
            lookup=lambda module, name: None,
            limits=pickle_values.Limits(opcodes=200_000, depth=8),
        )

    def _read_header(self) -> int:
        magic, position = self._read_plain(0)
        if magic != STREAM_MAGIC:
            raise errors.WeightError(f"{self._label}: not a torch.save stream (no magic number)")
        protocol, position = self._read_plain(position)
        system, position = self._read_plain(position)
        if protocol != _STREAM_PROTOCOL or not isinstance(system, dict):
            raise errors.WeightError(f"{self._label}: unknown torch.save protocol {protocol!r:.40}")
        if system.get("little_endian") is not True:
            raise errors.WeightError(f"{self._label}: only little-endian streams are supported")
        return position

    def _declare(self, value: Any) -> Storage:
        kind, key, length = parse_storage_id(value)
        storage = Storage(kind, length, lambda: self._data[key])
        known = self._declared.setdefault(key, storage)
        if (known.kind, known.length) != (kind, length):
            raise errors.WeightError(f"storage {pickle_values.printable(key)} is declared twice")
        return known

    def _read_storage(self, key: str, position: int) -> int:
        storage, start = self._declared[key], position + 8
        end = start + storage.nbytes
        if end > len(self._buffer):
            raise errors.WeightError(f"{self._label}: a storage passes the end; truncated")
        (count,) = struct.unpack_from("<q", self._buffer, position)
        if count != storage.length:
            raise errors.WeightError(
                f"{self._label}: a storage declares {storage.length} values and holds {count}"
            )
        self._data[key] = self._buffer[start:end]
        return end


def read_embedded_storage(data: Any) -> Storage:
    """Stands for torch.storage._load_from_bytes: a whole stream that holds one storage.

    Args:
      data: The bytes of the stream.

    Returns:
      The storage.

    Raises:
      WeightError: The bytes are not such a stream, or it names any other global.

    Source: torch's legacy serialisation format.
    """
    if not isinstance(data, bytes | memoryview):
        raise errors.WeightError("an embedded storage is not a byte string; damaged pickle")
    stream = StreamReader(memoryview(data), "embedded storage", lambda module, name: None)
    storage = stream.read()
    if not isinstance(storage, Storage):
        raise errors.WeightError("an embedded stream holds no storage; refused")
    return storage
