"""Frames of a video by number: any container PyAV reads, turned as its rotation flag says.

Reading in order decodes once; going back decodes from the start again.
"""

import io
import pathlib
from collections.abc import Iterator

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import UInt8


class VideoFile:
    """Decoded frames of the first video stream.

    Attributes:
      size: Width and height as seen, after turning, pixels.
      count: Number of frames that can be decoded.
      fps: Frames a second.
    """

    def __init__(self, source: pathlib.Path | bytes, *, where: str) -> None:
        """Opens the video and counts its frames.

        Args:
          source: The file or its content.
          where: File, for messages.

        Raises:
          DataFormatError: it is no video, has no frames, or is cut off.
        """
        self._source, self._where = source, where
        self._iterator: Iterator[np.ndarray] | None = None
        self._next, self._last = 0, None
        with self._container() as container:
            stream = container.streams.video[0] if container.streams.video else None
            if stream is None:
                raise errors.DataFormatError(
                    f"{where}: expected a video; there is only sound. Choose another file."
                )
            self.fps = float(stream.average_rate or 25)
            promised = stream.frames
            packets = self._guarded(
                lambda: sum(1 for p in container.demux(stream) if p.size), "read"
            )
        first = next(self._decode(), None)
        if first is None or not packets:
            raise errors.DataFormatError(
                f"{where}: the video has no frames. Record or export it again."
            )
        if promised and packets < promised:
            raise errors.DataFormatError(
                f"{where}: the video promises {promised} frames and holds {packets}: it is cut "
                "off. Copy it again."
            )
        self.size = (first.shape[1], first.shape[0])
        self.count = packets

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Decodes one frame.

        Args:
          index: From 0.

        Returns:
          The frame, upright.

        Raises:
          DataFormatError: the video is damaged before or there.
        """
        if self._last is not None and index == self._next - 1:
            return self._last
        if self._iterator is None or index < self._next:
            self._iterator, self._next = self._decode(), 0
        for frame in self._iterator:
            self._next, self._last = self._next + 1, frame
            if self._next == index + 1:
                return frame
        raise errors.DataFormatError(
            f"{self._where}: frame {index} of {self.count} cannot be decoded; the video is cut off "
            "or damaged. Copy it again."
        )

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for index in range(self.count):
            yield self.read(index)

    def _container(self) -> InputContainer:
        source = self._source
        opened = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        return self._guarded(lambda: av.open(opened, mode="r"), "opened as a video")

    def _decode(self) -> Iterator[np.ndarray]:
        with self._container() as container:
            frames = container.decode(video=0)
            while (frame := self._guarded(lambda: next(frames, None), "decoded")) is not None:
                image = frame.to_ndarray(format="rgb24")
                # The flag is the angle by which players turn counter-clockwise, in quarters.
                yield np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4))

    def _guarded(self, call, what: str):  # noqa: ANN001, ANN202 (any call of PyAV)
        try:
            return call()
        except (FFmpegError, OSError, ValueError) as error:
            raise errors.DataFormatError(
                f"{self._where}: cannot be {what} ({' '.join(str(error).split())}). Copy it again, "
                "or convert it to mp4 (H.264)."
            ) from error
