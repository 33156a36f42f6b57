"""What can drive an avatar, opened by what it is: frames in order of time, read one by one."""

import contextlib
import dataclasses
import math
import pathlib
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

from ganavatar_jax.apps import experiment_config
from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, Int, UInt8
from ganavatar_jax.data import canonicalize, data_config, records
from ganavatar_jax.data.builders import gan_frames
from ganavatar_jax.data.formats import (
    eg3d,
    file_tree,
    film_sound,
    film_stream,
    film_times,
    json_files,
    pictures,
    video_file,
)
from ganavatar_jax.faces import live_link, precomputed

VIDEO_SUFFIXES = frozenset(
    ".3gp .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ts .webm .wmv".split()
)
_KINDS = (
    "a video (mp4, mov, ...), a folder or zip of pictures, a codes file (.json, .jsonl, .npz) or a "
    "Live Link Face recording (.csv)"
)
_USUAL_FPS = 25.0
_MATTES = "alpha"  # folder of an EG3D-like capture
_LARGEST_COUNT = 10**6


@dataclasses.dataclass(frozen=True)
class Source:
    """Frames that drive; readable while the source is open.

    Attributes:
      name: What the results are called after.
      where: File or folder, for messages.
      frames: Name of each frame.
      times_s: When each frame is due, seconds after the first.
      fps: Frames a second.
      in_time: Whether the frames are known to follow each other at that rate.
      read: Decodes a frame by its number; None for sources without pictures.
      names: Coefficients of the codes.
      codes: Codes, NaN for frames without one; None where they are to be read off the pictures.
      sound: Called with the begin and the length of a part, seconds after the first frame, it
        returns the part's sound as `film_sound.read_sound` does; None for silent sources.
    """

    name: str
    where: str
    frames: tuple[str, ...]
    times_s: Float[np.ndarray, " f"]
    fps: float
    in_time: bool
    read: Callable[[int], UInt8[np.ndarray, "h w 3"]] | None
    names: tuple[str, ...] = ()
    codes: Float[np.ndarray, "f e"] | None = None
    sound: Callable[[float, float], Iterator[Float[np.ndarray, "2 s"]]] | None = None


@contextlib.contextmanager
def open_source(config: experiment_config.DriveConfig) -> Iterator[Source]:
    """Opens what drives.

    Args:
      config: `source` names it; `codes` and `fps` say how it is understood.

    Returns:
      A context manager that yields the source.

    Raises:
      ConfigError: none is named.
      DataFormatError: it is missing, of another kind, or damaged.
    """
    if not config.source:
        raise errors.ConfigError(
            f"drive.source is not set; name {_KINDS}, e.g. --config.drive.source=other.mp4"
        )
    path = gan_frames.source_path(config.source)
    suffix = path.suffix.lower()
    if not path.exists() and config.source != "-":
        raise errors.DataFormatError(
            f"{path}: there is no such file. Set drive.source to {_KINDS}."
        )
    if not path.is_dir():
        film_stream.check_path(path, key="drive.source")
    if path.is_dir() or (suffix == ".zip" and zipfile.is_zipfile(path)):
        with file_tree.open_tree(path) as tree:
            yield _open_tree(tree, path, config)
    elif suffix == ".csv":
        yield _open_recording(path)
    elif suffix in (".json", ".jsonl", ".npz"):
        yield _open_codes(path, config)
    elif suffix in VIDEO_SUFFIXES:
        yield _open_video(path, config)
    else:
        pictures.refuse_unread(path.name, where=str(path))
        raise errors.DataFormatError(
            f"{path}: cannot drive an avatar: it is of another kind, or damaged. Set drive.source "
            f"to {_KINDS}."
        )


def choose_frames(
    source: Source, config: experiment_config.DriveConfig
) -> tuple[Int[np.ndarray, " f"], float]:
    """Chooses which frames of the source are the frames of the result.

    Args:
      source: What drives.
      config: Which part, and the rate of the result.

    Returns:
      rows: Number of the source's frame that is nearest in time, for each frame of the result.
      fps: Rate of the result.

    Raises:
      DataFormatError: the source ends before the part begins, or the result would be endless.
    """
    fps = config.fps or source.fps
    length_s = float(source.times_s[-1]) + 1.0 / source.fps
    if config.start_s >= length_s:
        raise errors.DataFormatError(
            f"{source.where}: lasts {length_s:.2f} s; drive.start_s={config.start_s:g} lies behind "
            "its end. Begin earlier."
        )
    end_s = min(config.end_s or length_s, length_s)
    # Time stamps may be as coarse as milliseconds: a frame that lacks a tenth of itself counts.
    count = max(1, int((end_s - config.start_s) * fps + 0.1))
    if count > _LARGEST_COUNT:
        raise errors.DataFormatError(
            f"{source.where}: would become {count} frames, more than {_LARGEST_COUNT}. Set "
            "drive.end_s or a lower drive.fps."
        )
    times_s = config.start_s + np.arange(count) / fps
    after = np.clip(np.searchsorted(source.times_s, times_s), 1, max(len(source.frames) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(source.frames) - 1)
    is_after = source.times_s[after] - times_s < times_s - source.times_s[before]
    return np.where(is_after, after, before), fps


def _open_video(path: pathlib.Path, config: experiment_config.DriveConfig) -> Source:
    """Opens a film as far as it is needed, with its sound."""
    # One more second: the frame nearest to the end may lie behind it.
    until_s = config.end_s + 1.0 if config.end_s else math.inf
    video = video_file.VideoFile(path, where=str(path), until_s=until_s)

    def play(begin_s: float, length_s: float) -> Iterator[Float[np.ndarray, "2 s"]]:
        begin_s += video.start_s
        return film_sound.read_sound(path, where=str(path), begin_s=begin_s, length_s=length_s)

    return Source(
        name=_result_name(path),
        where=str(path),
        frames=tuple(f"{index:06d}" for index in range(video.count)),
        times_s=video.times_s,
        fps=video.fps,
        in_time=True,
        read=video.read,
        sound=play if film_sound.has_sound(path, where=str(path)) else None,
    )


def _open_recording(path: pathlib.Path) -> Source:
    found = live_link.load(path)
    return Source(
        name=_result_name(path),
        where=str(path),
        frames=tuple(f"{index:06d}" for index in range(len(found.codes))),
        times_s=found.times_s,
        fps=found.fps,
        in_time=True,
        read=None,
        names=found.names,
        codes=found.codes,
    )


def _open_codes(path: pathlib.Path, config: experiment_config.DriveConfig) -> Source:
    """Reads codes from a file: the driver has no pictures."""
    table = precomputed.load(path)
    if not table.frames or not table.names:
        raise errors.DataFormatError(f"{path}: holds no codes. Write the file anew.")
    order = sorted(range(len(table.frames)), key=lambda i: json_files.by_number(table.frames[i]))
    fps = table.fps or config.fps or _USUAL_FPS
    times_s = np.arange(len(order)) / fps
    if table.times_s is not None and order == sorted(order):
        times_s = np.array(table.times_s) - table.times_s[0]
        fps = table.fps or film_times.find_rate(times_s, None)
    return Source(
        name=_result_name(path),
        where=str(path),
        frames=tuple(table.frames[i] for i in order),
        times_s=times_s,
        fps=fps,
        in_time=bool(table.fps or table.times_s or config.fps),
        read=None,
        names=table.names,
        codes=table.codes[order],
    )


def _open_tree(
    tree: file_tree.FileTree, path: pathlib.Path, config: experiment_config.DriveConfig
) -> Source:
    """Opens a folder or zip, as a capture where it is one, else as pictures in a row."""
    if "dataset.json" in tree.names:
        return _open_capture(tree, path, config)
    names = [
        name
        for name in tree.names
        if pictures.is_picture(name) and _MATTES not in name.split("/")[:-1]
    ]
    if not names:
        for name in tree.names:
            pictures.refuse_unread(name, where=f"{path}: {name}")
        raise errors.DataFormatError(
            f"{path}: there are no pictures ({', '.join(sorted(pictures.EXTENSIONS))}). Set "
            f"drive.source to {_KINDS}."
        )
    names.sort(key=json_files.by_number)

    def read(index: int) -> UInt8[np.ndarray, "h w 3"]:
        where = f"{path}: {names[index]}"
        return _on_white(*pictures.decode_color(tree.read(names[index]), where=where))

    return _pictures(path, tuple(names), read, config)


def _open_capture(
    tree: file_tree.FileTree, path: pathlib.Path, config: experiment_config.DriveConfig
) -> Source:
    """Opens a capture with its codes, and its times where it was a film."""
    capture = eg3d.read_capture(tree, data_config.ReaderConfig())

    def read(index: int) -> UInt8[np.ndarray, "h w 3"]:
        frame = capture.frames[index].load()
        return _on_white(frame.image, frame.alpha if capture.background == "straight" else None)

    source = _pictures(path, tuple(frame.frame_id for frame in capture.frames), read, config)
    times_s = np.array([np.nan if f.time_s is None else f.time_s for f in capture.frames])
    if (np.diff(times_s) > 0).all() and len(times_s) > 1 and not config.fps:
        rate = film_times.find_rate(times_s - times_s[0], None)
        source = dataclasses.replace(source, times_s=times_s - times_s[0], fps=rate, in_time=True)
    if not capture.expression_names or config.codes == "estimate":
        return source
    return dataclasses.replace(source, names=capture.expression_names, codes=_stored(capture))


def _pictures(
    path: pathlib.Path,
    frames: tuple[str, ...],
    read: Callable[[int], UInt8[np.ndarray, "h w 3"]],
    config: experiment_config.DriveConfig,
) -> Source:
    fps = config.fps or _USUAL_FPS
    return Source(
        name=_result_name(path),
        where=str(path),
        frames=frames,
        times_s=np.arange(len(frames)) / fps,
        fps=fps,
        in_time=config.fps > 0,
        read=read,
    )


def _result_name(path: pathlib.Path) -> str:
    name = path.resolve().name if path.is_dir() else path.stem
    return name.lstrip(".") or "driver"


def _stored(capture: records.Capture) -> Float[np.ndarray, "f e"]:
    unknown = np.full(len(capture.expression_names), np.nan, np.float32)
    codes = [unknown if f.expression is None else f.expression for f in capture.frames]
    return np.stack(codes).astype(np.float32)


def _on_white(
    image_u8: UInt8[np.ndarray, "h w 3"], alpha_u8: UInt8[np.ndarray, "h w"] | None
) -> UInt8[np.ndarray, "h w 3"]:
    if alpha_u8 is None:
        return image_u8
    return canonicalize.replace_background(image_u8, alpha_u8, source="straight", target="white")
