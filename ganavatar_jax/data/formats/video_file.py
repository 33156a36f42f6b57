"""Frames of a film by number: any container PyAV reads, as players show them.

What is in the film is known before the work begins (`film_index`). Reading on decodes on; going
back or far ahead begins at the key frame before, and what was decoded last is kept, within bounds.
"""

import bisect
import collections
import pathlib
import threading
from collections.abc import Iterator

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.data.formats import film_index, film_pictures, film_stream

_KEPT_BYTES = 128 * 2**20  # Of decoded frames.
_READERS = 2  # Places of a film that are read on from.
_FAR = 16  # Frames; a reader that is farther away is left where it is, if that costs little.


class VideoFile:
    """Frames of the film that players show, numbered from 0.

    Attributes:
      size: Width and height as seen, after turning, in square pixels.
      count: Number of frames; each of them has been decoded once.
      fps: A constant rate at which no frame is lost, frames a second.
      times_s: When each frame is shown, seconds after the first.
      start_s: Time of the first frame on the file's clock, seconds; its sound follows that clock.
      has_alpha: Whether the film is transparent anywhere.
      notes: What of it is left out or changed, as told; empty for most films.
    """

    times_s: Float[np.ndarray, " f"]

    def __init__(
        self, source: pathlib.Path | bytes, *, where: str, until_s: float = float("inf")
    ) -> None:
        """Opens the film, decodes it once and tells what of it is left out.

        Args:
          source: The file or its content.
          where: File, for messages.
          until_s: What is shown later than this, seconds after the first frame, is not looked at.

        Raises:
          DataFormatError: it is no film, or (almost) nothing of it decodes.
        """
        self._source, self._where = source, where
        self._index = film_index.make_index(source, where=where, until_s=until_s)
        self.size = self._index.look.size
        self.count = len(self._index.stamps)
        self.fps, self.times_s = self._index.fps, self._index.times_s
        self.start_s, self.has_alpha = self._index.start_s, self._index.has_alpha
        self.notes = self._index.notes
        self._numbers = {stamp: n for n, stamp in enumerate(self._index.stamps)}
        self._seeks = bool(self._index.keys)
        self._readers: list[_Reader] = []  # The one used last is the last.
        self._kept: collections.OrderedDict[int, film_stream.Shown] = collections.OrderedDict()
        self._kept_bytes = 0
        self._made: tuple[int, np.ndarray, np.ndarray | None] | None = None
        self._lock = threading.Lock()

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Decodes one frame.

        Args:
          index: From 0.

        Returns:
          The frame, upright; on white where it is transparent.

        Raises:
          DataFormatError: the film has changed on disk, or has no such frame.
        """
        return self._picture(index)[1]

    def read_alpha(self, index: int) -> UInt8[np.ndarray, "h w"] | None:
        """Decodes the coverage of one frame.

        Args:
          index: From 0.

        Returns:
          255 where it is opaque; None for films without transparency.

        Raises:
          DataFormatError: the film has changed on disk, or has no such frame.
        """
        return self._picture(index)[2] if self.has_alpha else None

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for index in range(self.count):
            yield self.read(index)

    def _picture(self, index: int) -> tuple[int, np.ndarray, np.ndarray | None]:
        """Makes a frame's number, picture and coverage; the last ones are kept."""
        if not 0 <= index < self.count:
            raise errors.DataFormatError(
                f"{self._where}: there is no frame {index}; the video has {self.count}."
            )
        with self._lock:
            if self._made is None or self._made[0] != index:
                where = f"{self._where}: frame {index}"
                look = self._index.look
                self._made = (
                    index,
                    *film_pictures.to_picture(self._frame(index), look, where=where),
                )
            return self._made

    def _frame(self, index: int) -> film_stream.Shown:
        """Finds a decoded frame, or decodes up to it from the nearest place."""
        if index in self._kept:
            self._kept.move_to_end(index, last=False)
            return self._kept[index]
        for reader in self._ways_to(index):
            for number, shown in reader.read_on(index):
                self._keep(number, shown)
                if number == index:
                    # What was read goes first: what was passed over on the way may be read next.
                    self._kept.move_to_end(index, last=False)
                    return shown
            self._close(reader)
        raise errors.DataFormatError(
            f"{self._where}: frame {index} of {self.count} cannot be decoded any more: the file "
            "has changed. Start again."
        )

    def _ways_to(self, index: int) -> Iterator["_Reader"]:
        """Places to decode from, the nearest first; each next one where that did not lead there."""
        keys = self._index.keys if self._seeks else ()
        key = bisect.bisect_right(keys, self._index.stamps[index] or 0) - 1 if keys else -1
        begin = 0
        if key >= 0:  # The first frame that is shown from that key frame on.
            begin = bisect.bisect_left(self._index.stamps, keys[key])  # type: ignore[arg-type]
        near = [reader for reader in self._readers if begin <= reader.position <= index]
        reader = max(near, key=lambda r: r.position, default=None)
        if reader is not None and not self._is_far(index - reader.position, index - begin):
            self._readers.remove(reader)
            self._readers.append(reader)
            yield reader
        for back in (key, key - 1):
            if back > 0:
                found = self._open(keys[back])
                if found is not None:
                    yield found
        if key > 0:  # Nothing else led there: only in order from now on.
            self._seeks = False
        opened = self._open(None)
        assert opened is not None
        yield opened

    def _is_far(self, from_reader: int, from_key: int) -> bool:
        """Tells whether a reader should rather stay where it is: somebody reads on there."""
        return from_reader > _FAR and from_key <= 2 * from_reader

    def _open(self, stamp: int | None) -> "_Reader | None":
        """Opens a place to read from; the one that was not used for longest goes."""
        while len(self._readers) >= _READERS:
            self._close(self._readers[0])
        index = self._index
        film = film_stream.FilmStream(self._source, where=self._where, threads=index.threads)
        if stamp is not None and not film.seek(stamp):
            film.close()
            return None
        reader = _Reader(film, index, self._numbers, sought=stamp is not None)
        self._readers.append(reader)
        return reader

    def _close(self, reader: "_Reader") -> None:
        if reader in self._readers:
            self._readers.remove(reader)
        reader.close()

    def _keep(self, number: int, shown: film_stream.Shown) -> None:
        """Keeps decoded frames within the bound, the last ones."""
        if number not in self._kept:
            self._kept[number] = shown
            self._kept_bytes += _bytes_of(shown)
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= _bytes_of(self._kept.popitem(last=False)[1])


class _Reader:
    """A place in the film from which decoding goes on."""

    def __init__(
        self,
        film: film_stream.FilmStream,
        index: film_index.FilmIndex,
        numbers: dict[int | None, int],
        *,
        sought: bool,
    ) -> None:
        self.sought = sought
        self.position = -1 if sought else 0  # The frame that comes next.
        self._film, self._index, self._numbers = film, index, numbers
        self._frames = iter(film)
        self._passed = 0

    def read_on(self, last: int) -> Iterator[tuple[int, film_stream.Shown]]:
        """Yields frames up to a number; ends early where they are not those of the first pass."""
        while self.position <= last:
            shown = next(self._frames, None)
            if shown is None:
                return
            if not self.sought and self._passed < self._index.lead:
                self._passed += 1
                continue
            number = (
                self._numbers.get(film_stream.stamp(shown.frame)) if self.sought else self.position
            )
            if number is None or number >= len(self._index.checks):
                if self.sought and self.position < 0:
                    continue  # Before the first frame that is shown.
                return
            if film_index.check_sum(shown.frame) != self._index.checks[number]:
                # Frames just after a key frame may refer to what was before; others may not.
                if self.sought and number < last:
                    continue
                return
            self.position = number + 1
            yield number, shown

    def close(self) -> None:
        """Closes the file."""
        self._film.close()


def _bytes_of(shown: film_stream.Shown) -> int:
    pictures = [shown.frame] if shown.alpha is None else [shown.frame, shown.alpha]
    return sum(plane.buffer_size for picture in pictures for plane in picture.planes)
