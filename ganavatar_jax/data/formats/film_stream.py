"""The video stream of a film, decoded packet by packet: what decodes comes out, all else counts.

A packet that cannot be decoded costs its own frame and not the film. Transparency that WebM stores
beside the pictures (VP8, VP9) is decoded with them.
"""

import io
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from ganavatar_jax.core import errors

_T = TypeVar("_T")
_ALPHA = "matroska_block_additional"
_ALPHA_HEADER = 8  # Bytes before the data: which of a block's additions it is.
_VP8_SHOWN = 0x10  # Bit of a VP8 frame's first byte.


class Shown(NamedTuple):
    """A decoded frame.

    Attributes:
      frame: As the decoder made it.
      alpha: Its transparency as the brightness of a second picture, where WebM stores one.
    """

    frame: av.VideoFrame
    alpha: av.VideoFrame | None


class PacketFacts(NamedTuple):
    """What a packet says before it is decoded.

    Attributes:
      pts: Time stamp in the stream's units, or None.
      is_key: Whether decoding may begin here.
      is_cut: Whether an edit list leaves it out.
      is_hidden: Whether no player shows it: left out, or made to be referred to.
    """

    pts: int | None
    is_key: bool
    is_cut: bool
    is_hidden: bool


def stamp(frame: av.VideoFrame) -> int | None:
    """Returns a frame's time stamp.

    Args:
      frame: As the decoder made it.

    Returns:
      In units of its time base; None where the file has none.
    """
    return frame.pts if frame.pts is not None else frame.dts


def check_path(path: pathlib.Path, *, key: str) -> None:
    """Refuses what is no file that can be read again and again.

    Args:
      path: Where the film shall be.
      key: The configuration's key, for messages.

    Raises:
      DataFormatError: there is no file, or a folder, a pipe or a device is in its place.
    """
    if str(path) == "-" and not path.exists():
        raise errors.DataFormatError(
            f"{key}=-: standard input is not read, because a film is read more than once. Save it "
            f"to a file and set {key} to that."
        )
    if not path.exists():
        raise errors.DataFormatError(f"{path}: there is no such video. Set {key} to a video file.")
    if path.is_dir():
        raise errors.DataFormatError(
            f"{path}: expected a video; it is a folder. Set {key} to a video file."
        )
    if not path.is_file():
        raise errors.DataFormatError(
            f"{path}: expected a file; it is a pipe or a device, and a film is read more than "
            f"once. Save it to a file and set {key} to that."
        )


def guarded(call: Callable[[], _T], what: str, *, where: str) -> _T:
    """Calls PyAV and says in one line what went wrong.

    Args:
      call: What to do.
      what: What the film cannot be when it fails, e.g. "opened as a video".
      where: File, for messages.

    Returns:
      What the call returns.

    Raises:
      DataFormatError: it failed.
    """
    try:
        return call()
    except (FFmpegError, OSError, ValueError) as error:
        raise errors.DataFormatError(
            f"{where}: cannot be {what} ({' '.join(str(error).split())}). Copy it again, "
            "or convert it to mp4 (H.264)."
        ) from error


def open_container(source: pathlib.Path | bytes, *, where: str) -> InputContainer:
    """Opens a film.

    Args:
      source: The file or its content.
      where: File, for messages.

    Returns:
      The container.

    Raises:
      DataFormatError: it is no film.
    """
    # "file:" and the whole path: a colon in a name is no protocol.
    opened = io.BytesIO(source) if isinstance(source, bytes) else f"file:{source.absolute()}"
    return guarded(lambda: av.open(opened, mode="r"), "opened as a video", where=where)


class FilmStream:
    """One pass over the frames of a film.

    Attributes:
      stream: PyAV's stream.
      format_name: FFmpeg's names of the container.
      packets: Facts of the packets taken so far.
      failed: Number of packets that could not be decoded.
    """

    def __init__(self, source: pathlib.Path | bytes, *, where: str, threads: int = 0) -> None:
        """Opens the film.

        Args:
          source: The file or its content.
          where: File, for messages.
          threads: Of the decoder; 0 takes as many as there are processors.

        Raises:
          DataFormatError: it is no film.
        """
        self._container = open_container(source, where=where)
        self.stream = _choose_stream(self._container, where)
        self.format_name = self._container.format.name
        context = self.stream.codec_context
        if threads:
            context.thread_count = threads
        else:
            self.stream.thread_type = "AUTO"
        self.packets: list[PacketFacts] = []
        self.failed = 0
        self._alpha_codec: VideoCodecContext | None = None
        self._alphas: dict[int | None, av.VideoFrame] = {}
        if self.stream.metadata.get("alpha_mode") == "1" and context.name in ("vp8", "vp9"):
            self._alpha_codec = av.CodecContext.create(context.name, "r")  # type: ignore

    def seek(self, pts: int) -> bool:
        """Goes to the key frame at a time stamp, or before.

        Args:
          pts: In the stream's units.

        Returns:
          Whether the film can be moved in.
        """
        try:
            self._container.seek(pts, stream=self.stream)
        except (FFmpegError, OSError, ValueError):
            return False
        self._alphas.clear()
        if self._alpha_codec is not None:
            self._alpha_codec.flush_buffers()
        return True

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def __iter__(self) -> Iterator[Shown]:
        for packet in self._demux():
            try:
                frames = self.stream.codec_context.decode(packet if packet.size else None)
            except (FFmpegError, ValueError):
                self.failed += 1
                continue
            finally:
                self._decode_alpha(packet)
            for frame in frames:
                yield Shown(frame, self._alphas.pop(frame.pts, None))

    def _demux(self) -> Iterator[Packet]:
        """Takes packets to the end, or to where the file is cut off; an empty one comes last."""
        packets = self._container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except (FFmpegError, OSError):
                self.failed += 1
                packet = None
            if packet is None or not packet.size:
                break
            cut, hidden = packet.is_discard, packet.is_discard
            if self.stream.codec_context.name == "vp8":
                hidden |= not bytes(packet)[0] & _VP8_SHOWN
            self.packets.append(PacketFacts(packet.pts, packet.is_keyframe, cut, hidden))
            yield packet
        yield Packet()

    def _decode_alpha(self, packet: Packet) -> None:
        """Keeps a packet's transparency until its picture comes."""
        if self._alpha_codec is None or not packet.size or not packet.has_sidedata(_ALPHA):
            return
        data = Packet(bytes(packet.get_sidedata(_ALPHA))[_ALPHA_HEADER:])
        data.pts, data.time_base = packet.pts, packet.time_base
        try:
            for frame in self._alpha_codec.decode(data):
                self._alphas[packet.pts] = frame
        except (FFmpegError, ValueError):
            self.failed += 1


def _choose_stream(container: InputContainer, where: str) -> VideoStream:
    """Chooses what players show; the cover of a song is no film."""
    found = [s for s in container.streams.video if not _is_cover(s)]
    best = container.streams.best("video")
    chosen = best if best in found else next(iter(found), None)
    if chosen is None:
        raise errors.DataFormatError(
            f"{where}: expected a video; there is only sound. Choose another file."
        )
    if chosen.codec_context is None:
        raise errors.DataFormatError(
            f"{where}: its video is of a kind that is not read. Convert it to mp4 (H.264)."
        )
    return chosen  # type: ignore


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)
