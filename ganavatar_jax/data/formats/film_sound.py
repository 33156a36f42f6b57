"""The sound of a part of a film, on the clock of its pictures."""

import pathlib
from collections.abc import Iterator

import av
import numpy as np
from av.error import FFmpegError

from ganavatar_jax.core.arrays import Float
from ganavatar_jax.data.formats import film_stream

RATE_HZ = 48000
CHANNELS = 2
_EARLIER_S = 2.0  # Where reading begins before the part: the decoder swings in.
_SLACK_S = 0.05  # Stamps of sound are coarse; what is farther off is a gap.


def has_sound(source: pathlib.Path | bytes, *, where: str) -> bool:
    """Tells whether a film has sound.

    Args:
      source: The file or its content.
      where: File, for messages.

    Returns:
      Whether there is a stream of sound that can be decoded.

    Raises:
      DataFormatError: it is no film.
    """
    with film_stream.open_container(source, where=where) as container:
        return any(stream.codec_context is not None for stream in container.streams.audio)


def read_sound(
    source: pathlib.Path | bytes, *, where: str, begin_s: float, length_s: float
) -> Iterator[Float[np.ndarray, "2 s"]]:
    """Decodes the sound of a part of a film; where there is none, it is silent.

    Args:
      source: The file or its content.
      where: File, for messages.
      begin_s: Where the part begins on the file's clock, seconds.
      length_s: Seconds.

    Returns:
      Blocks of samples of both channels, -1..1, `RATE_HZ` a second, `length_s` long together.

    Raises:
      DataFormatError: it is no film.
    """
    due, total = 0, round(length_s * RATE_HZ)
    for start_s, samples in _decode(source, where, begin_s):
        start = round((start_s - begin_s) * RATE_HZ)
        if abs(start - due) <= _SLACK_S * RATE_HZ and due > 0:
            start = due
        if start > due:
            silent = min(start, total) - due
            yield np.zeros((CHANNELS, silent), np.float32)
            due += silent
        block = samples[:, max(due - start, 0) : max(total - start, 0)]
        if block.shape[1]:
            yield np.ascontiguousarray(block)
            due += block.shape[1]
        if due >= total:
            return
    yield np.zeros((CHANNELS, total - due), np.float32)


def _decode(
    source: pathlib.Path | bytes, where: str, begin_s: float
) -> Iterator[tuple[float, Float[np.ndarray, "2 s"]]]:
    """Decodes from shortly before a time on; packets that do not decode are silent."""
    with film_stream.open_container(source, where=where) as container:
        stream = container.streams.best("audio")
        if stream is None:
            return
        if begin_s > _EARLIER_S:
            try:
                container.seek(round((begin_s - _EARLIER_S) * av.time_base))
            except (FFmpegError, OSError):
                pass  # Read from the start then.
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE_HZ)
        for packet in _demux(container, stream):
            try:
                frames = packet.decode()
            except (FFmpegError, ValueError):
                continue
            for frame in frames:
                time_s = frame.time  # type: ignore[union-attr]
                for part in resampler.resample(frame):  # type: ignore[arg-type]
                    if time_s is not None:
                        yield time_s, part.to_ndarray()
                        time_s += part.samples / RATE_HZ


def _demux(container, stream) -> Iterator[av.Packet]:  # noqa: ANN001 (PyAV's)
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (FFmpegError, OSError):
            return
        if packet is None:
            return
        yield packet
