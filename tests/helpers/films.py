"""Small films of every kind, written by PyAV."""

import fractions
import pathlib
import struct

import av
import numpy as np


def shade(number: int, *, width: int = 64, height: int = 48) -> np.ndarray:
    """A picture that is known again: its level says its number, its left half is darker."""
    image = np.full((height, width, 3), 8 + 4 * (number % 60), np.uint8)
    image[:, : width // 2] //= 2
    return image


def number_of(image: np.ndarray) -> int:
    """The number of a `shade`."""
    return round((float(image[:, image.shape[1] * 3 // 4 :].mean()) - 8) / 4)


def corners(width: int = 64, height: int = 48) -> np.ndarray:
    """A picture with another colour in each corner: red, green, blue, white."""
    image = np.zeros((height, width, 3), np.uint8)
    middle, center = height // 2, width // 2
    image[:middle, :center], image[:middle, center:] = (200, 0, 0), (0, 200, 0)
    image[middle:, :center], image[middle:, center:] = (0, 0, 200), (200, 200, 200)
    return image


def write(
    path: pathlib.Path,
    images: list[np.ndarray],
    *,
    times_s: list[float] | None = None,
    codec: str = "libx264",
    layout: str = "yuv420p",
    gop: int = 12,
    stretch: tuple[int, int] | None = None,
    options: dict[str, str] | None = None,
    colors: dict[str, int] | None = None,
    matrix: str | None = None,
    tone_s: tuple[float, float] | None = None,
    container: str | None = None,
) -> pathlib.Path:
    """Writes a film at 25 frames a second, or with times of its own; a tone sounds for a while."""
    # Few frames wait in the encoder: what is lost with a packet is one frame.
    options = (
        {"bf": "0", "sc_threshold": "0"} | (options or {}) if codec == "libx264" else options or {}
    )
    with av.open(str(path.absolute()), "w", format=container) as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.codec_context.gop_size = layout, gop
        if stretch:
            stream.codec_context.sample_aspect_ratio = fractions.Fraction(*stretch)
        for name, value in (colors or {}).items():
            setattr(stream.codec_context, name, value)
        base = fractions.Fraction(1, 1000 if times_s else 25)
        stream.codec_context.time_base = base
        sound = out.add_stream("aac", rate=48000, layout="stereo") if tone_s else None
        for index, image in enumerate(images):
            frame = to_frame(image, layout, matrix=matrix, full=(colors or {}).get("color_range"))
            frame.time_base = base
            frame.pts = round(times_s[index] * 1000) if times_s else index
            for name, value in (colors or {}).items():
                setattr(frame, name, value)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if sound is not None and tone_s is not None:
            length_s = times_s[-1] if times_s else len(images) / 25
            _write_tone(out, sound, tone_s, length_s=length_s)
    return path


def to_frame(
    image: np.ndarray, layout: str, *, matrix: str | None = None, full: int | None = None
) -> av.VideoFrame:
    """Converts a picture with the colour matrix and range that a film shall have."""
    kinds = {(3, 1): "rgb24", (4, 1): "rgba", (3, 2): "rgb48le", (4, 2): "rgba64le"}
    kind = "gray" if image.ndim == 2 else kinds[image.shape[2], image.itemsize]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=kind)
    return frame.reformat(
        format=layout, dst_colorspace=matrix or "ITU601", dst_color_range=full or 1
    )


def _write_tone(out, stream, tone_s, *, length_s):
    """1000 Hz from one time to another, silence around it."""
    time_s = np.arange(round(length_s * 48000)) / 48000
    wave = np.sin(2 * np.pi * 1000 * time_s) * ((time_s >= tone_s[0]) & (time_s < tone_s[1]))
    samples = np.stack([wave, wave]).astype(np.float32) * np.float32(0.5)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, fractions.Fraction(1, 48000)
    out.mux(stream.encode(frame))
    out.mux(stream.encode())


def tone_of(path: pathlib.Path, *, stream: int = 0) -> tuple[float, float]:
    """When the sound of a film begins and ends, seconds on the clock of its pictures."""
    with av.open(str(path)) as film:
        first_s = next(film.decode(video=0)).time
    heard = []
    with av.open(str(path)) as film:
        for frame in film.decode(audio=stream):
            level = np.abs(frame.to_ndarray().astype(float)).max(axis=0)
            loud = np.flatnonzero(level > 0.1)
            if len(loud):
                heard += [frame.time + loud[0] / 48000, frame.time + loud[-1] / 48000]
    return heard[0] - first_s, heard[-1] - first_s


def copy_packets(source: pathlib.Path, target: pathlib.Path, *, skip: int = 0, cut: int = 0):
    """Copies a film without encoding: without its first packets, or with frames cut by an edit."""
    with av.open(str(source)) as src, av.open(str(target), "w") as out:
        stream = src.streams.video[0]
        copy = out.add_stream_from_template(stream)
        shift = round(cut / 25 / float(stream.time_base))
        for number, packet in enumerate(p for p in src.demux(stream) if p.dts is not None):
            if number >= skip:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                out.mux(packet)
    return target


def damage(path: pathlib.Path, number: int, *, how: str) -> None:
    """Overwrites a packet of a film: all of it with zeros, or some of its end with noise."""
    with av.open(str(path)) as film:
        packet = [p for p in film.demux(video=0) if p.size][number]
        place, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    if how == "zeros":
        data[place : place + size] = bytes(size)
    else:
        begin = place + size // 3
        noise = np.random.default_rng(0).integers(0, 256, place + size - begin).astype(np.uint8)
        data[begin : place + size] = noise.tobytes()
    path.write_bytes(bytes(data))


def set_matrix(path: pathlib.Path, matrix: tuple[float, float, float, float]) -> None:
    """Sets an mp4's display matrix (a, b, c, d)."""
    data = path.read_bytes()
    place = data.index(b"tkhd") + 4 + 40  # Version 0: the matrix follows 40 bytes of the box.
    a, b, c, d = (round(value * 65536) for value in matrix)
    packed = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:place] + packed + data[place + 36 :])
