"""Makes a `records.Capture` of what a reader found out about each frame.

Readers of formats collect `Entry`s; here files are looked up, headers and cameras are checked, and
pixels are read when a frame is loaded: undistorted, gamma-corrected, with their matte.
"""

import contextlib
import dataclasses
import functools
import pathlib
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float, UInt8
from ganavatar_jax.data import data_config, labels, records
from ganavatar_jax.data.formats import (
    conventions,
    file_tree,
    json_files,
    lenses,
    mattes,
    pictures,
)

# Relative difference of aspect ratios up to which an image counts as a resized one.
_ASPECT_TOLERANCE = 0.01

Correction = Callable[[UInt8[np.ndarray, "h w 3"]], UInt8[np.ndarray, "h w 3"]]
# Names the numbers of an expression code by its length.
CodeNames = Callable[[int], Sequence[str]]


@runtime_checkable
class Opener(Protocol):
    """Opens a capture; frames can be loaded while it is open."""

    def __call__(
        self, path: str | pathlib.Path, *, options: data_config.ReaderConfig | None = None
    ) -> contextlib.AbstractContextManager[records.Capture]:
        """Opens the capture at a path, a folder or zip."""
        ...


def opener(
    read: Callable[[file_tree.FileTree, data_config.ReaderConfig], records.Capture],
) -> Opener:
    """Makes what opens captures of what reads their files.

    Args:
      read: A format's `read_capture(tree, options)`.

    Returns:
      A function that takes a path and options, and returns a context manager for the capture.
    """

    @contextlib.contextmanager
    def open_capture(
        path: str | pathlib.Path, *, options: data_config.ReaderConfig | None = None
    ) -> Iterator[records.Capture]:
        with file_tree.open_tree(path) as tree:
            yield read(tree, options or data_config.ReaderConfig())

    return open_capture


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a reader knows of a frame before its pixels are read.

    Attributes:
      frame_id: Name of the frame; unique.
      image: File name within the capture.
      matte: File name of its matte, or None.
      cam2world: Pose, OpenCV axes.
      intrinsics: Normalised by the image size.
      size: Width and height the calibration speaks of, pixels; the file may be a resized one.
        None where the format does not say.
      lens: Distortion.
      expression: Expression code, or None.
      sequence: Recording the frame belongs to.
      split: "train", "test", or None.
    """

    frame_id: str
    image: str
    cam2world: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]
    matte: str | None = None
    size: tuple[int, int] | None = None
    lens: lenses.Lens = lenses.Lens()
    expression: Float[np.ndarray, " e"] | None = None
    sequence: str = ""
    split: records.SplitName | None = None


def make_capture(
    tree: file_tree.FileTree,
    entries: Sequence[Entry],
    *,
    name_code: CodeNames | None = None,
    background: records.ImageBackground = "unknown",
    correct: Correction | None = None,
    one_size: bool = True,
    notes: Sequence[str] = (),
    unused: str = "no frame names them",
) -> records.Capture:
    """Checks the frames of a capture and binds them to their files.

    Args:
      tree: The capture's files.
      entries: Its frames, in order of time.
      name_code: What the numbers of an expression code mean; None where frames have no codes.
      background: What lies behind the head in the stored images, unless they are transparent.
      correct: Changes colours after decoding, e.g. a gamma curve.
      one_size: Whether all images must have one size.
      notes: What the reader has to tell of the capture.
      unused: Why pictures that lie beside the used ones are not used.

    Returns:
      The capture; frames are as large as their files.

    Raises:
      DataFormatError: a name stands twice, a file is missing or no image, sizes, transparency or
        lengths of codes differ, some frames have a matte and some have none, or a camera is
        impossible.
    """
    _refuse_doubles(tree, entries)
    headers = [_read_header(tree, entry) for entry in entries]
    _check_alike(tree, entries, headers, one_size=one_size)
    transparent = headers[0].has_alpha
    rule = _judge_mattes(tree, entries, transparent)
    width = _code_length(tree, entries)
    frames = tuple(
        records.FrameReference(
            label25=labels.check_label25(
                [*entry.cam2world.ravel().tolist(), *entry.intrinsics.ravel().tolist()],
                where=f"{tree.path}: {entry.frame_id}",
            ),
            expression=entry.expression,
            frame_id=entry.frame_id,
            sequence=entry.sequence,
            split=entry.split,
            size=(header.width, header.height),
            read_pixels=functools.partial(_read_pixels, tree, entry, correct, rule),
        )
        for entry, header in zip(entries, headers, strict=True)
    )
    has_matte = entries[0].matte is not None
    return records.Capture(
        name=str(tree.path),
        frames=frames,
        expression_names=tuple(name_code(width)) if name_code and width else (),
        resolution=min(min(frame.size) for frame in frames),
        background="straight" if transparent and not has_matte else background,
        has_alpha=transparent or has_matte,
        digest=tree.digest(),
        notes=tuple(
            note for note in (*notes, rule.note, _count_unused(tree, entries, unused)) if note
        ),
    )


def image_size(tree: file_tree.FileTree, name: str) -> tuple[int, int]:
    """Reads how large an image is.

    Args:
      tree: The capture.
      name: The image.

    Returns:
      Width and height, pixels.

    Raises:
      DataFormatError: it is no image.
    """
    header = pictures.read_header(tree.read(name), where=f"{tree.path}: {name}")
    return header.width, header.height


def _code_length(tree: file_tree.FileTree, entries: Sequence[Entry]) -> int:
    lengths = {len(entry.expression) for entry in entries if entry.expression is not None}
    if len(lengths) > 1:
        raise errors.DataFormatError(
            f"{tree.path}: all expressions must hold equally many numbers; got "
            f"{' and '.join(map(str, sorted(lengths)))}. Track all frames alike."
        )
    return max(lengths, default=0)


def _refuse_doubles(tree: file_tree.FileTree, entries: Sequence[Entry]) -> None:
    if not entries:
        raise errors.DataFormatError(
            f"{tree.path}: the capture has no frames. Check the export, or data.source."
        )
    seen: set[str] = set()
    for entry in entries:
        if entry.frame_id in seen:
            raise errors.DataFormatError(
                f"{tree.path}: two frames are called {entry.frame_id}. Remove one of them."
            )
        seen.add(entry.frame_id)


def _read_header(tree: file_tree.FileTree, entry: Entry) -> pictures.Header:
    where = f"{tree.path}: {entry.image}"
    data = tree.read(entry.image)
    upright = _is_upright(data, entry, where)
    header = pictures.read_header(data, where=where, upright=upright)
    if entry.size is not None:
        ratio = header.width * entry.size[1] / (header.height * entry.size[0])
        if abs(ratio - 1.0) > _ASPECT_TOLERANCE:
            raise errors.DataFormatError(
                f"{where}: its camera is calibrated for images of {entry.size[0]}x{entry.size[1]}; "
                f"got {header.width}x{header.height}. Undo the crop or correct the calibration."
            )
    return header


def _is_upright(data: bytes, entry: Entry, where: str) -> bool:
    """Tells whether a camera sees the image as viewers turn it, or lying as it is stored."""
    if entry.size is None:
        return True
    shapes = [pictures.read_header(data, where=where, upright=upright) for upright in (True, False)]
    away = [abs(h.width * entry.size[1] - h.height * entry.size[0]) for h in shapes]
    return away[0] <= away[1]


def _check_alike(
    tree: file_tree.FileTree,
    entries: Sequence[Entry],
    headers: Sequence[pictures.Header],
    *,
    one_size: bool,
) -> None:
    """Refuses captures that change on the way: one dataset has one size, and mattes or none."""
    first, name = headers[0], entries[0].image
    for entry, header in zip(entries, headers, strict=True):
        where = f"{tree.path}: {entry.image}"
        if one_size and (header.width, header.height) != (first.width, first.height):
            raise errors.DataFormatError(
                f"{where}: all images must have one size; got {header.width}x{header.height}, and "
                f"{name} has {first.width}x{first.height}. Resize them alike."
            )
        if header.has_alpha != first.has_alpha:
            raise errors.DataFormatError(
                f"{where}: all images must be transparent (RGBA) or none; it is unlike {name}. "
                "Save them alike."
            )
        if (entry.matte is None) != (entries[0].matte is None):
            raise errors.DataFormatError(
                f"{where}: some frames have a matte and some have none. Add or remove mattes."
            )


def _read_pixels(
    tree: file_tree.FileTree, entry: Entry, correct: Correction | None, rule: mattes.Rule
) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads a frame as a pinhole camera would have seen it, its matte with it."""
    data, where = tree.read(entry.image), f"{tree.path}: {entry.image}"
    upright = _is_upright(data, entry, where)
    image, alpha = pictures.decode_color(data, where=where, upright=upright)
    if entry.matte is not None:
        where = f"{tree.path}: {entry.matte}"
        alpha = pictures.decode_matte(tree.read(entry.matte), where=where)
        if alpha.shape != image.shape[:2]:
            raise errors.DataFormatError(
                f"{where}: a matte must be as large as its image "
                f"({image.shape[1]}x{image.shape[0]}); got {alpha.shape[1]}x{alpha.shape[0]}. "
                "Resize it."
            )
    if correct is not None:
        image = correct(image)
    image = lenses.undistort_image(image, entry.intrinsics, entry.lens)
    if alpha is not None:
        alpha = mattes.apply(alpha, rule, where=where)
        alpha = lenses.undistort_image(alpha, entry.intrinsics, entry.lens)
    return image, alpha


def _judge_mattes(
    tree: file_tree.FileTree, entries: Sequence[Entry], transparent: bool
) -> mattes.Rule:
    """Finds what "head" is in the capture's mattes, be they files or transparency."""

    def read(entry: Entry) -> np.ndarray:
        name = entry.matte or entry.image
        data, where = tree.read(name), f"{tree.path}: {name}"
        if entry.matte is not None:
            return pictures.decode_matte(data, where=where)
        alpha = pictures.decode_color(data, where=where)[1]
        assert alpha is not None  # _check_alike saw to it
        return alpha

    if entries[0].matte is None and not transparent:
        return mattes.Rule()
    return mattes.judge([functools.partial(read, e) for e in entries], where=str(tree.path))


def _count_unused(tree: file_tree.FileTree, entries: Sequence[Entry], why: str) -> str:
    """Tells of pictures that lie beside the used ones and are left out."""
    used = {entry.image for entry in entries} | {entry.matte for entry in entries}
    folders = {posixpath.dirname(entry.image) for entry in entries}
    left = [
        name
        for name in tree.names
        if name not in used and posixpath.dirname(name) in folders and pictures.is_picture(name)
    ]
    if not left:
        return ""
    total = len(entries) + len(left)
    most, count = Counter(map(posixpath.dirname, left)).most_common(1)[0]
    place = f"in {most or '.'}" if count == len(left) else f"in {most or '.'} and elsewhere"
    return (
        f"{len(entries)} of {total} frames are used; {len(left)} pictures {place} are left out "
        f"({left[0]}{', ...' if len(left) > 1 else ''}): {why}."
    )


def choose(
    tree: file_tree.FileTree, found: Sequence[str], wanted: Sequence[str], *, what: str
) -> list[str]:
    """Keeps the wanted parts of a capture.

    Args:
      tree: The capture, for messages.
      found: What there is.
      wanted: Names to keep; empty keeps all.
      what: What is chosen, for messages, singular.

    Returns:
      The names to read, in the order of their numbers.

    Raises:
      DataFormatError: a wanted one is not there.
    """
    for name in wanted:
        if name not in found:
            listed = ", ".join(sorted(found)[:8]) + (", ..." if len(found) > 8 else "")
            raise errors.DataFormatError(
                f'{tree.path}: there is no {what} "{name}"; it has {listed}. Correct data.reader.'
            )
    return sorted(wanted or found, key=json_files.by_number)


def one_handedness(tree: file_tree.FileTree, entries: Sequence[Entry]) -> list[Entry]:
    """Mirrors the world where a format's signs make all its cameras left-handed.

    Args:
      tree: The capture, for messages.
      entries: Frames whose focal lengths are positive already.

    Returns:
      The frames with right-handed cameras.

    Raises:
      DataFormatError: some cameras are left-handed and some are not.

    Source: conventions.reflect_world.
    """
    left = [conventions.is_left_handed(entry.cam2world) for entry in entries]
    if all(left):
        return [
            dataclasses.replace(entry, cam2world=conventions.reflect_world(entry.cam2world))
            for entry in entries
        ]
    if any(left):
        first = entries[left.index(True)].frame_id
        raise errors.DataFormatError(
            f"{tree.path}: some cameras are left-handed (the first is that of {first}) and some "
            "are not. Track the capture again."
        )
    return list(entries)
