"""Frames of a dataset that can no longer be read: named, counted, and left out up to a limit."""

import logging
import threading
from collections.abc import Callable, Iterator

import numpy as np

from ganavatar_jax.core import errors, image_sequences
from ganavatar_jax.core.arrays import Int, UInt8

_LOG = logging.getLogger(__name__)


class Damaged:
    """The damaged frames met so far. Safe in threads."""

    def __init__(self, limit: int) -> None:
        """Starts to count.

        Args:
          limit: How many may be left out.
        """
        self._limit = limit
        self._frames: set[int] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._frames))

    def passing(self, frame: int, read: Callable[[], None]) -> None:
        """Reads a frame, and passes it over where it is damaged.

        Args:
          frame: Its number.
          read: Reads it.

        Raises:
          DataFormatError: it is damaged, and so are as many others as may be.
        """
        try:
            read()
        except errors.DataFormatError as error:
            self._add(frame, error)

    def read(
        self, images: image_sequences.Images, frames: Int[np.ndarray, " b"]
    ) -> tuple[UInt8[np.ndarray, "b h w 3"], Int[np.ndarray, " b"]]:
        """Reads the images of a batch, those that follow in the place of damaged ones.

        Args:
          images: All images.
          frames: Which ones.

        Returns:
          The images, and which ones they are.

        Raises:
          DataFormatError: more are damaged than may be.
        """
        try:
            return images[frames], frames
        except errors.DataFormatError:
            if not self._limit:
                raise
        taken = np.array([self._find_sound(images, int(frame)) for frame in frames], frames.dtype)
        return images[taken], taken

    def _find_sound(self, images: image_sequences.Images, frame: int) -> int:
        while True:
            try:
                images[frame]
            except errors.DataFormatError as error:
                self._add(frame, error)
                frame = (frame + 1) % len(images)
            else:
                return frame

    def _add(self, frame: int, error: errors.DataFormatError) -> None:
        """Counts a frame once, and tells of it; raises its error where there are too many."""
        with self._lock:
            if frame in self._frames:
                return
            if len(self._frames) >= self._limit:
                passed = f" ({self._limit} were left out before it)" if self._limit else ""
                raise type(error)(f"{error}{passed}") from error
            self._frames.add(frame)
            _LOG.warning(
                "%s It is left out (%d of at most %d, data.skip_damaged).",
                error,
                len(self._frames),
                self._limit,
            )
