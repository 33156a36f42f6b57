"""Reads the examples of a stored split: one by one, many in threads, images when asked for.

A split may hold more images than memory does. Labels, codes and names are small; images stay
encoded on disk and are decoded when they are asked for (`StoredImages`). Pillow decodes without
Python's lock, so that threads suffice.
"""

import concurrent.futures
import functools
import io
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ganavatar_jax.core import errors, image_sequences
from ganavatar_jax.core.arrays import UInt8

_BLOCK = 16  # examples a thread works on in one go
_MOST_THREADS = 32
# What array_record, the parser of its records and Pillow raise on damaged bytes.
_DAMAGE = (RuntimeError, ValueError, OSError, SyntaxError, LookupError, TypeError, AttributeError)


class Records:
    """The examples of one split, read one by one; their images stay encoded. Safe in threads."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, images: tuple[str, ...]):
        skip = {name: tfds.decode.SkipDecoding() for name in images}
        # TFDS decorates the method in a way that hides its parameters.
        self._source: Any = builder.as_data_source(split, decoders=skip)  # type: ignore[reportCallIssue]
        self._length, self._images = builder.info.splits[split].num_examples, images
        features: Any = builder.info.features
        self._shapes = {name: features[name].shape for name in images}
        self._where, self._split = str(builder.data_dir), split

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"expected the number of one of {len(self)} records; got {index}.")
        try:
            example = self._source[index]
            empty = [name for name in self._images if not example[name]]
        except _DAMAGE as error:
            raise self._damaged(index, None, error) from error
        if empty:  # what is read beyond the end of a truncated file
            raise self._damaged(index, example, ValueError(f"its {empty[0]} is empty"))
        return example

    def image_shape(self, feature: str) -> tuple[int, ...]:
        """Tells the shape of all images of a feature: height, width and 3, or height and width."""
        shape = self._shapes[feature]
        return shape if shape[-1] == 3 else shape[:-1]

    def image(self, index: int, feature: str = "image") -> UInt8[np.ndarray, "h w *c"]:
        """Reads and decodes an image.

        Args:
          index: Number of the example.
          feature: Which of its images.

        Returns:
          Pixels; grey ones have no channel axis.

        Raises:
          DataFormatError: the record or the image is damaged.
        """
        return self.decode(index, self[index], feature)

    def decode(
        self, index: int, example: Mapping[str, Any], feature: str = "image"
    ) -> UInt8[np.ndarray, "h w *c"]:
        """Decodes an image of an example.

        Args:
          index: Number of the example.
          example: What is read there.
          feature: Which of its images.

        Returns:
          Pixels; grey ones have no channel axis.

        Raises:
          DataFormatError: the image is damaged.
        """
        try:
            image = _decode_png(example[feature])
        except _DAMAGE as error:
            raise self._damaged(index, example, error) from error
        if image.shape != self.image_shape(feature):
            reason = f"expected an image of {self.image_shape(feature)}, got {image.shape}"
            raise self._damaged(index, example, ValueError(reason))
        return image

    def _damaged(
        self, index: int, example: Mapping[str, Any] | None, error: Exception
    ) -> errors.DataFormatError:
        frame = (example or {}).get("frame_id")
        named = f" ({frame.decode(errors='replace')})" if isinstance(frame, bytes) else ""
        reason = " ".join(str(error).split()) or type(error).__name__
        return errors.DataFormatError(
            f'{self._where}: record {index}{named} of split "{self._split}" is damaged ({reason}). '
            "Run the task that makes it again (--task=prepare_data for frames, "
            "--task=make_frontals for expression pairs)."
        )


class StoredImages:
    """The images of a split, decoded whenever they are asked for (`image_sequences.Images`).

    Attributes:
      shape: As that of the array they would make.
    """

    def __init__(self, records: Records, feature: str = "image") -> None:
        self._records, self._feature = records, feature
        self.shape: tuple[int, ...] = (len(records), *records.image_shape(feature))

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, key: Any, /) -> UInt8[np.ndarray, "..."]:
        chosen = np.arange(len(self))[key]
        indices = np.atleast_1d(chosen)
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)

        def read(position: int) -> None:
            index = int(indices[position])
            images[position] = self._records.image(index, self._feature)

        for_each(len(indices), read)
        return images if chosen.ndim else images[0]

    def __iter__(self) -> Iterator[Any]:
        return image_sequences.iterate(self)


def for_each(count: int, work: Callable[[int], None]) -> None:
    """Does something for every example, in threads: Pillow decodes without Python's lock.

    Args:
      count: How many there are.
      work: Called with the number of each; must not call `for_each` itself.

    Raises:
      Exception: the first that `work` raised.
    """
    if count == 1:
        work(0)
        return
    threads = _count_cpus()
    size = min(_BLOCK, -(-count // threads))  # a small batch is spread over all threads, too

    def block(start: int) -> None:
        for index in range(start, min(start + size, count)):
            work(index)

    for _ in _start_threads(threads).map(block, range(0, count, size or 1)):
        pass


@functools.cache
def _count_cpus() -> int:
    """Counts the CPUs this process may use; more threads than that would only wait."""
    own = getattr(os, "sched_getaffinity", None)  # not on macOS
    return min(len(own(0)) if own else os.cpu_count() or 1, _MOST_THREADS)


@functools.cache
def _start_threads(count: int) -> concurrent.futures.ThreadPoolExecutor:
    """Starts the threads that decode, once a process."""
    return concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix="decode")


def _decode_png(data: bytes) -> UInt8[np.ndarray, "h w *c"]:
    """Decodes what `storage.encode_png` made; grey images have no channel axis."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)
