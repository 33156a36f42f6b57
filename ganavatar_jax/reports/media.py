"""Pictures and videos that people look at: PNG, MP4, labelled sheets, side-by-side views.

All images are uint8 0..255, RGB, height x width x 3. Files appear whole or not at all.
"""

import contextlib
import fractions
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont

from ganavatar_jax.core import files, images
from ganavatar_jax.core.arrays import Float, UInt8

ImageU8 = UInt8[np.ndarray, "h w 3"]
PictureU8 = UInt8[np.ndarray, "picture_h picture_w 3"]  # A result of another size.

_CRF = 16  # x264 quality, 0 (lossless) .. 51; 16 keeps differences between columns trustworthy.
_BT709 = 1  # The number of ITU-R BT.709 in H.264's tables of colour matrices and primaries.
_INK = (32, 32, 32)
_PAPER = 236  # Not white, so that images on white keep visible edges.


def save_png(path: str | pathlib.Path, image_u8: ImageU8) -> None:
    """Writes an image as PNG.

    Args:
      path: File name.
      image_u8: The image.

    Returns:
      Nothing.
    """
    with files.atomic_path(path) as partial:
        Image.fromarray(image_u8).save(partial, format="PNG")


def write_video(path: str | pathlib.Path, frames_u8: Iterable[ImageU8], *, fps: int | float) -> int:
    """Writes frames as H.264 in MP4, playable everywhere (yuv420p, index at the front).

    Odd sizes are padded to even ones by repeating the last row or column.

    Args:
      path: File name, ending in .mp4.
      frames_u8: Frames of one size; may be a generator, one frame is held at a time.
      fps: Frames per second.

    Returns:
      Number of frames written.

    Raises:
      ValueError: there are no frames, sizes differ, or fps is not positive; no file is left.
    """
    count = 0
    with open_video(path, fps=fps) as add:
        for frame in frames_u8:
            add(frame)
            count += 1
    return count


class Sound(NamedTuple):
    """Sound of a video.

    Attributes:
      rate_hz: Samples a second.
      blocks: Samples of both channels, -1..1, one block after the other.
    """

    rate_hz: int
    blocks: Iterator[Float[np.ndarray, "2 s"]]


@contextlib.contextmanager
def open_video(
    path: str | pathlib.Path, *, fps: int | float, sound: Sound | None = None
) -> Iterator[Callable[[ImageU8], None]]:
    """Opens a video that is written frame by frame, as `write_video` does it.

    Args:
      path: File name, ending in .mp4.
      fps: Frames per second.
      sound: What is heard with it (AAC); it is taken block by block as the frames come.

    Returns:
      A context manager that yields the function which adds a frame; the file is there when the
      block ends without an exception.

    Raises:
      ValueError: there are no frames, sizes differ, or fps is not positive; no file is left.
    """
    if fps <= 0:
        raise ValueError(f"{path}: a video needs fps > 0; got {fps}.")
    with (
        files.atomic_path(path) as partial,
        av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream: VideoStream | None = None
        track: _Track | None = None
        shape, count = (), 0

        def add(frame: ImageU8) -> None:
            nonlocal stream, track, shape, count
            if stream is None:
                stream, shape = _add_stream(container, frame, fps), frame.shape
                track = _Track(container, sound) if sound is not None else None
            if frame.shape != shape:
                raise ValueError(
                    f"{path}: all frames must have the first one's shape {shape}; frame {count} "
                    f"has {frame.shape}."
                )
            container.mux(stream.encode(_to_video_frame(frame)))
            count += 1
            if track is not None:
                track.write(until_s=count / fps)

        yield add
        if stream is None:
            raise ValueError(f"{path}: a video needs at least one frame; got none.")
        container.mux(stream.encode(None))
        if track is not None:
            track.write(until_s=count / fps)
            track.finish()


def upscale(
    image_u8: ImageU8, *, min_side_px: int, method: Literal["nearest", "lanczos"] = "lanczos"
) -> PictureU8:
    """Enlarges a small image by a whole factor so that people can see it; never shrinks.

    Args:
      image_u8: The image.
      min_side_px: The shorter side is at least this long afterwards, pixels.
      method: "nearest" shows the true pixels as squares, "lanczos" is smooth.

    Returns:
      The image, enlarged by the smallest whole factor that suffices.
    """
    height, width = image_u8.shape[:2]
    factor = max(1, -(-min_side_px // min(height, width)))
    if factor == 1:
        return image_u8
    if method == "nearest":
        return image_u8.repeat(factor, axis=0).repeat(factor, axis=1)
    size = (width * factor, height * factor)
    return np.asarray(Image.fromarray(image_u8).resize(size, Image.Resampling.LANCZOS))


def tile_sheet(
    images_u8: UInt8[np.ndarray, "f h w 3"], *, columns: int, min_side_px: int = 128
) -> PictureU8:
    """Tiles images row by row into one picture, enlarged where they are small.

    Args:
      images_u8: The images.
      columns: Tiles in a row.
      min_side_px: Least length of an image's shorter side, pixels.

    Returns:
      The picture.

    Raises:
      ValueError: columns is not positive or there is no image.
    """
    shown = [upscale(image, min_side_px=min_side_px) for image in images_u8]
    return images.make_grid(np.stack(shown), columns=columns, padding_px=2)


def side_by_side(
    columns: Mapping[str, ImageU8], *, min_side_px: int = 256, gap_px: int = 8
) -> PictureU8:
    """Puts labelled images next to each other, enlarged where they are small.

    Args:
      columns: Label -> image, left to right; all of one size.
      min_side_px: Least length of an image's shorter side, pixels.
      gap_px: Space between images, pixels.

    Returns:
      One picture with the labels above the images.

    Raises:
      ValueError: there are no columns or sizes differ.
    """
    rows = {label: image[None] for label, image in columns.items()}
    return contact_sheet(rows, tile_px=min_side_px, gap_px=gap_px)


def contact_sheet(
    columns: Mapping[str, UInt8[np.ndarray, "r h w 3"]],
    *,
    row_labels: Sequence[str] = (),
    tile_px: int = 192,
    gap_px: int = 8,
) -> PictureU8:
    """Lays images out in a table with labelled columns and, if given, labelled rows.

    Args:
      columns: Label -> images from top to bottom; all of one shape.
      row_labels: One text per row, may have several lines; empty for none.
      tile_px: Least length of an image's shorter side, pixels; smaller ones are enlarged.
      gap_px: Space between images, pixels.

    Returns:
      The table on light grey.

    Raises:
      ValueError: there are no images, shapes differ, or row labels do not match the rows.
    """
    shapes = {column.shape for column in columns.values()}
    rows = next(iter(shapes))[0] if shapes else 0
    if len(shapes) != 1 or rows == 0 or len(row_labels) not in (0, rows):
        raise ValueError(
            f"a sheet needs columns of equal shape and no or one label per row; got shapes "
            f"{sorted(shapes)} and {len(row_labels)} row labels."
        )
    tiles = [[upscale(i, min_side_px=tile_px) for i in column] for column in columns.values()]
    height, width = tiles[0][0].shape[:2]
    font = ImageFont.load_default(size=max(13, min(height, width) // 14))
    header = max(_text_size(label, font)[1] for label in columns) + 2 * gap_px
    margin = max((_text_size(label, font)[0] + gap_px for label in row_labels), default=0) + gap_px
    lefts = [margin + column * (width + gap_px) for column in range(len(tiles))]
    tops = [header + row * (height + gap_px) for row in range(rows)]
    size = (tops[-1] + height + gap_px, lefts[-1] + width + gap_px, 3)
    sheet = np.full(size, _PAPER, np.uint8)
    for left, column in zip(lefts, tiles, strict=True):
        for top, tile in zip(tops, column, strict=True):
            sheet[top : top + height, left : left + width] = tile
    canvas = Image.fromarray(sheet)
    draw = ImageDraw.Draw(canvas)
    for left, label in zip(lefts, columns, strict=True):
        position = (left + width / 2, header / 2)
        draw.text(position, label, _INK, font, anchor="mm", align="center")
    for top, label in zip(tops, row_labels, strict=False):
        draw.text((gap_px, top + height / 2), label, _INK, font, anchor="lm")
    return np.asarray(canvas)


def heat_map(
    values: Float[np.ndarray, "*b h w"], *, full_scale: int | float
) -> UInt8[np.ndarray, "*b h w 3"]:
    """Colours non-negative values from black over red and yellow to white.

    Args:
      values: Non-negative values; those above full_scale are white.
      full_scale: Value that becomes white.

    Returns:
      The coloured picture.

    Source: ours; three ramps one after the other.
    """
    level = np.clip(values / full_scale, 0.0, 1.0)[..., None] * 3.0
    ramps = np.clip(level - np.array([0.0, 1.0, 2.0]), 0.0, 1.0)
    return np.round(255.0 * ramps).astype(np.uint8)


def _text_size(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> tuple[int, int]:
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), text, font)
    return int(box[2] - box[0]) + 1, int(box[3] - box[1]) + 1


def _add_stream(container: OutputContainer, frame: ImageU8, fps: int | float) -> VideoStream:
    rate = fractions.Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate, options={"crf": str(_CRF)})
    stream.height, stream.width = (side + side % 2 for side in frame.shape[:2])
    stream.pix_fmt = "yuv420p"
    # Without these marks players guess the colour matrix from the size, and colours shift.
    context = stream.codec_context
    context.colorspace, context.color_primaries, context.color_trc = _BT709, _BT709, _BT709
    context.color_range = 1  # 16..235
    return stream


class _Track:
    """The sound that is written beside the frames."""

    def __init__(self, container: OutputContainer, sound: Sound) -> None:
        self._container, self._sound = container, sound
        self._stream = container.add_stream("aac", rate=sound.rate_hz, layout="stereo")
        self._done = 0  # Samples.

    def write(self, *, until_s: float) -> None:
        """Writes blocks until the sound is as long as the frames."""
        while self._done < until_s * self._sound.rate_hz:
            block = next(self._sound.blocks, None)
            if block is None:
                return
            if not block.shape[1]:
                continue
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = self._sound.rate_hz, self._done
            frame.time_base = fractions.Fraction(1, self._sound.rate_hz)
            self._container.mux(self._stream.encode(frame))
            self._done += block.shape[1]

    def finish(self) -> None:
        """Writes what the encoder holds back."""
        self._container.mux(self._stream.encode(None))


def _to_video_frame(image_u8: ImageU8) -> av.VideoFrame:
    height, width = image_u8.shape[:2]
    if height % 2 or width % 2:
        image_u8 = np.pad(image_u8, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_u8), format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
