"""Many images that need not be in memory all at once.

A capture may hold more frames than memory does. What works on all of them takes `Images`: a NumPy
array, or anything that is indexed like one along its first axis and reads what it is asked for.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ganavatar_jax.core import files
from ganavatar_jax.core.arrays import Int, UInt8


@runtime_checkable
class Images(Protocol):
    """Images [f h w c] or [f h w], 0..255; a NumPy array is such a sequence.

    It is indexed along its first axis only: by a number, a slice, or an array of numbers or truth
    values. `images[:]` reads all of them.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of images, height, width and channels."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> UInt8[np.ndarray, "..."]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Rows:
    """Some of the images in another order, read when they are asked for.

    Attributes:
      shape: As that of the array they would make.
    """

    def __init__(self, images: Images, rows: Int[np.ndarray, " n"]) -> None:
        self._images, self._rows = images, np.asarray(rows)
        self.shape: tuple[int, ...] = (len(self._rows), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any, /) -> UInt8[np.ndarray, "..."]:
        return self._images[self._rows[key]]

    def __iter__(self) -> Iterator[Any]:
        return iterate(self)


class _Patched:
    """What `patch` makes."""

    def __init__(self, images: Images, elsewhere: Images, mask: Images) -> None:
        self._images, self._elsewhere, self._mask = images, elsewhere, mask
        self.shape: tuple[int, ...] = elsewhere.shape

    def __len__(self) -> int:
        return len(self._elsewhere)

    def __getitem__(self, key: Any, /) -> UInt8[np.ndarray, "..."]:
        images = self._images[key] if len(self._images) == len(self) else self._images[0]
        return np.where(self._mask[key][..., None] > 0, images, self._elsewhere[key])

    def __iter__(self) -> Iterator[Any]:
        return iterate(self)


def patch(images: Images, elsewhere: Images, mask: Images | None) -> Images:
    """Shows other images where a mask is 0.

    Args:
      images: One for each of the others, or one for all.
      elsewhere: The other images.
      mask: Of each of them; None hides nothing.

    Returns:
      The images put together when they are asked for; without a mask the images themselves.
    """
    return images if mask is None else _Patched(images, elsewhere, mask)


def iterate(images: Images, *, size: int = 32) -> Iterator[UInt8[np.ndarray, "h w *c"]]:
    """Goes through images one by one, reading several at once.

    Args:
      images: The images.
      size: Images read at once; bounds memory.

    Yields:
      The images in their order.
    """
    for start in range(0, len(images), size):
        yield from images[start : start + size]


def spread_evenly(count: int, *, most: int) -> Int[np.ndarray, " n"]:
    """Chooses images evenly where there are more than are worth looking at.

    Args:
      count: How many there are.
      most: How many are chosen at most.

    Returns:
      Their numbers, rising; all of them up to `most`.
    """
    if count <= most:
        return np.arange(count)
    return np.round(np.linspace(0, count - 1, most)).astype(np.int64)


def stack_on_disk(
    folder: str | os.PathLike[str], parts: Iterable[np.ndarray]
) -> UInt8[np.ndarray, "..."]:
    """Joins arrays in a file without a name, which is gone when nothing refers to the result.

    Args:
      folder: Where there is room; made if missing.
      parts: At least one array of bytes; equal but for their lengths.

    Returns:
      The arrays one after the other, read-only: memory holds what is looked at, as long as there
      is room.

    Raises:
      RunError: the disk is full, or the folder cannot be written.
    """
    count, shape = 0, ()
    try:
        file = tempfile.TemporaryFile(dir=files.make_folder(folder))
    except OSError as error:
        raise files.write_error(folder, error) from error
    with file:
        for part in parts:
            count, shape = count + len(part), part.shape[1:]
            try:
                file.write(np.ascontiguousarray(part, np.uint8).data)
                file.flush()
            except OSError as error:
                raise files.write_error(folder, error) from error
        return np.memmap(file, np.uint8, mode="r", shape=(count, *shape))
