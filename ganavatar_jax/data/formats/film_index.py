"""What a film really holds: one pass that decodes every frame, before any work begins.

Headers and packets promise frames that no decoder gives: those before the cut of an edit list,
those that refer to what is not there, damaged ones. Here a frame counts when it has come out of the
decoder. The pass keeps time stamps, key frames to begin at, and a check sum of each frame, by which
a frame that is reached another way is known again.
"""

import dataclasses
import fractions
import logging
import pathlib
import time
import zlib

import av
import numpy as np

from ganavatar_jax.core import errors
from ganavatar_jax.core.arrays import Float
from ganavatar_jax.data.formats import film_pictures, film_stream, film_times

_LOG = logging.getLogger(__name__)

_TELL_EVERY_S = 10.0
_FEWEST_SHARE = 0.1  # Of the pictures that must decode.
_ROWS = 4  # Every so many rows enter the check sum.
_LISTED = 3  # Runs of frames that a message names.


@dataclasses.dataclass(frozen=True)
class FilmIndex:
    """Frames of a film, numbered as they are shown.

    Attributes:
      stamps: Time stamp of each frame in the stream's units, or None.
      times_s: Seconds after the first frame.
      start_s: Time of the first frame on the file's own clock, which its sound follows.
      fps: Constant rate at which nothing is lost.
      checks: Check sum of each frame.
      keys: Time stamps to begin at, rising; empty where the film is only read from its start.
      lead: Decoded frames before the first whole one; they show remains.
      threads: Of the decoder; 0 takes as many as there are processors.
      look: How the frames are to be seen.
      has_alpha: Whether the film is transparent anywhere.
      notes: What of it is left out or changed, as told.
    """

    stamps: tuple[int | None, ...]
    times_s: Float[np.ndarray, " f"]
    start_s: float
    fps: float
    checks: tuple[int, ...]
    keys: tuple[int, ...]
    lead: int
    threads: int
    look: film_pictures.Look
    has_alpha: bool
    notes: tuple[str, ...]


@dataclasses.dataclass
class _Pass:
    """What one pass saw."""

    shown: list[tuple[int | None, float | None, int, bool]]  # stamp, seconds, check sum, is key
    packets: list[film_stream.PacketFacts]
    failed: int = 0
    damaged: list[int] = dataclasses.field(default_factory=list)  # Numbers in `shown`.
    resized: list[int] = dataclasses.field(default_factory=list)
    interlaced: int = 0
    has_alpha: bool = False
    first: av.VideoFrame | None = None
    stretch: fractions.Fraction | None = None
    fps: float | None = None
    promised: int = 0
    cut: int = 0  # Frames that do not even come out of the file.
    is_whole: bool = True


def make_index(
    source: pathlib.Path | bytes, *, where: str, until_s: float = float("inf")
) -> FilmIndex:
    """Decodes a film once and tells in one line what is unusual about it.

    Args:
      source: The file or its content.
      where: File, for messages.
      until_s: What is shown later than this, seconds after the first frame, is not looked at.

    Returns:
      The index.

    Raises:
      DataFormatError: it is no film, or (almost) nothing of it decodes.
    """
    threads = 0
    seen = _look_through(source, where, until_s=until_s, threads=threads)
    if seen.failed or seen.damaged or not seen.shown:
        # Threads drop other frames around a damage than one decoder does: take one for all.
        threads = 1
        seen = _look_through(source, where, until_s=until_s, threads=threads)
    lead = _find_lead(seen)
    shown = seen.shown[lead:]
    pictures = len([p for p in seen.packets if not p.is_hidden])
    if seen.first is None or not shown:
        found = f"none of {pictures} frames can be decoded" if pictures else "it has no frames"
        raise errors.DataFormatError(f"{where}: {found}. Record or export the video again.")
    if len(shown) < _FEWEST_SHARE * pictures and seen.is_whole:
        raise errors.DataFormatError(
            f"{where}: only {len(shown)} of {pictures} frames can be decoded; the video is "
            "damaged. Copy it again, or convert it to mp4 (H.264)."
        )
    look = film_pictures.find_look(seen.first, seen.stretch)
    stamps = tuple(stamp for stamp, _, _, _ in shown)
    rising = all(
        a is not None and b is not None and a < b for a, b in zip(stamps, stamps[1:], strict=False)
    )
    times_s = film_times.seconds([s for _, s, _, _ in shown], seen.fps)
    keys = sorted(p.pts for p in seen.packets if p.is_key and p.pts is not None)
    notes = _tell(seen, look, lead, where=where)
    return FilmIndex(
        stamps=stamps,
        times_s=times_s,
        start_s=shown[0][1] or 0.0,
        fps=film_times.find_rate(times_s, seen.fps),
        checks=tuple(check for _, _, check, _ in shown),
        keys=tuple(keys) if rising and stamps[0] is not None else (),
        lead=lead,
        threads=threads,
        look=look,
        has_alpha=seen.has_alpha,
        notes=notes,
    )


def check_sum(frame: av.VideoFrame) -> int:
    """Computes what a frame is known by.

    Args:
      frame: As the decoder made it.

    Returns:
      Check sum of some rows of its first plane (brightness, or all colours).
    """
    plane, layout = frame.planes[0], frame.format
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore
    bits = layout.padded_bits_per_pixel
    if layout.is_planar:
        bits = 16 if max(part.bits for part in layout.components) > 8 else 8
    # Without what pads the rows: it is anything.
    used = rows[: frame.height : _ROWS, : frame.width * bits // 8]
    return zlib.adler32(np.ascontiguousarray(used).data)


def _look_through(
    source: pathlib.Path | bytes, where: str, *, until_s: float, threads: int
) -> _Pass:
    """Decodes to the end, or until a time."""
    film = film_stream.FilmStream(source, where=where, threads=threads)
    rate = film.stream.average_rate
    seen = _Pass([], film.packets, fps=float(rate) if rate and 1 <= rate <= 240 else None)
    seen.stretch, seen.promised = film.stream.sample_aspect_ratio, film.stream.frames
    if "mp4" in film.format_name:  # What an edit list leaves out is not in the index either.
        entries = len(film.stream.index_entries)
        seen.cut, seen.promised = max(seen.promised - entries, 0), entries
    told_s, size, base = time.monotonic(), None, film.stream.time_base or 0
    try:
        for shown in film:
            frame = shown.frame
            seen.first = seen.first or frame
            size = size or (frame.width, frame.height)
            number = len(seen.shown)
            if (frame.width, frame.height) != size:
                seen.resized.append(number)
            if frame.is_corrupt:
                seen.damaged.append(number)
            seen.interlaced += bool(frame.interlaced_frame)
            seen.has_alpha = seen.has_alpha or film_pictures.is_transparent(shown)
            stamp = film_stream.stamp(frame)
            time_s = None if stamp is None else float(stamp * base)
            seen.shown.append((stamp, time_s, check_sum(frame), bool(frame.key_frame)))
            if (time_s or 0.0) - (seen.shown[0][1] or 0.0) > until_s:
                seen.is_whole = False
                break
            if time.monotonic() - told_s > _TELL_EVERY_S:
                told_s = time.monotonic()
                _LOG.info("%s: looking through the film: %d frames", where, len(seen.shown))
    finally:
        film.close()
    seen.failed = film.failed
    return seen


def _find_lead(seen: _Pass) -> int:
    """Counts frames before the first whole one, where the file begins between key frames."""
    if not seen.packets or seen.packets[0].is_key:
        return 0
    return next((i for i, (_, _, _, is_key) in enumerate(seen.shown) if is_key), 0)


def _tell(seen: _Pass, look: film_pictures.Look, lead: int, *, where: str) -> tuple[str, ...]:
    """Says in one line what was passed over, and what of the film is unusual."""
    assert seen.first is not None
    lost = _describe_losses(seen, lead)
    notes = film_pictures.describe(look, seen.first, seen.stretch)
    cut = seen.cut + sum(packet.is_cut for packet in seen.packets)
    if cut:
        notes.append(f"{cut} more are in the file outside of its cut, which no player shows")
    if seen.resized:
        runs = _name_runs([n - lead for n in seen.resized])
        notes.append(
            f"frames {runs} are of another size and fitted into {look.size[0]}x{look.size[1]}"
        )
    if seen.interlaced > len(seen.shown) / 2:
        notes.append(
            "it is interlaced and moving edges are combs: deinterlace it first (ffmpeg -vf bwdif)"
        )
    if seen.has_alpha:
        notes.append("it is transparent: it stands on white, and its transparency is the matte")
    if not lost and not notes:
        return ()
    strange = lost or seen.resized or seen.interlaced
    parts = "; ".join([f"{len(seen.shown) - lead} frames are used", *lost, *notes])
    _LOG.log(logging.WARNING if strange else logging.INFO, "%s: %s.", where, parts)
    return (*lost, *notes)


def _describe_losses(seen: _Pass, lead: int) -> list[str]:
    """Names the frames that the file holds and no decoder gives."""
    notes = []
    pictures = [packet for packet in seen.packets if not packet.is_hidden]
    stamps = [packet.pts for packet in pictures]
    if None in stamps or len(set(stamps)) < len(stamps) or not seen.is_whole:
        lost = len(pictures) - len(seen.shown) + lead if seen.failed else lead
        if lost > 0 and seen.is_whole:
            notes.append(f"{lost} of {len(pictures)} frames in the file cannot be decoded")
    else:
        got = {stamp for stamp, _, _, _ in seen.shown[lead:]}
        missing = [n for n, stamp in enumerate(sorted(stamps)) if stamp not in got]  # type: ignore
        if missing:
            notes.append(
                f"{len(missing)} of {len(stamps)} in the file cannot be decoded and are left out: "
                f"{_name_runs(missing)} (counted in the file, from 0)"
            )
    damaged = [n - lead for n in seen.damaged if n >= lead]
    if damaged:
        notes.append(f"damaged are {_name_runs(damaged)}")
    if damaged or seen.failed:
        notes.append("those after them may show remains up to the next key frame")
    if seen.is_whole and 0 < len(seen.packets) < seen.promised:
        notes.append(
            f"the file promises {seen.promised} frames and holds {len(seen.packets)}: it is cut off"
        )
    return notes


def _name_runs(numbers: list[int]) -> str:
    """Writes numbers as runs: "3 to 5, 9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    named = [str(a) if a == b else f"{a} to {b}" for a, b in runs[:_LISTED]]
    return ", ".join(named) + (f" and {len(runs) - _LISTED} more" if len(runs) > _LISTED else "")
