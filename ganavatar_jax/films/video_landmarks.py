"""Landmarks and expression codes of a video's frames, kept in files of 100 frames each."""

import functools
import logging
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Float, Int
from ganavatar_jax.data import data_config
from ganavatar_jax.data.formats import video_file
from ganavatar_jax.faces import estimator_config, mediapipe_face

_LOG = logging.getLogger(__name__)

# Called with the stage, the number of its finished frames (0 when it begins) and of all its frames.
Progress = Callable[[str, int, int], None]

_CHUNK = 100
_FACE_COUNT_EVERY = 20
_LONG_GAP = 25  # Frames without a face that are told about.
_SLOW = 90.0  # Percentile of the steps: few are gaps, and films of changing rate have slow parts.
_GAP = 2.02  # Slow steps that a gap is longer than; one frame may be missing.


class Tracks(NamedTuple):
    """Landmarks of the frames with a face, in order of time.

    Attributes:
      frame: Number of each frame in the video.
      landmarks: Pixels of the video.
      code: Expression codes.
      names: Their names.
      presence: How sure the landmark net is that it sees a face, 0..1.
      time_s: When each frame is shown, seconds after the video's first.
    """

    frame: Int[np.ndarray, " f"]
    landmarks: Float[np.ndarray, "f 478 3"]
    code: Float[np.ndarray, "f e"]
    names: tuple[str, ...]
    presence: Float[np.ndarray, " f"]
    time_s: Float[np.ndarray, " f"]


def read_tracks(
    video: video_file.VideoFile,
    config: data_config.DataConfig,
    estimator: estimator_config.EstimatorConfig,
    folder: pathlib.Path,
    progress: Progress | None,
) -> tuple[Tracks, int]:
    """Reads the face of every frame, or takes up what an earlier call has read.

    Args:
      video: The recording.
      config: Which frames are used.
      estimator: How faces are read.
      folder: The files go to `landmarks` in it.
      progress: Told how far the stage is.

    Returns:
      tracks: The frames with a face.
      missing: Number of frames without one.

    Raises:
      DataFormatError: there are too few frames with a face, or several faces in them.
      EstimatorError: a model file is missing.
    """
    numbers = np.arange(0, video.count, config.video.stride)
    if config.video.max_frames:
        numbers = numbers[: config.video.max_frames]
    reader: mediapipe_face.MediaPipeFace | None = None
    names: tuple[str, ...] = ()
    found, crowds, looked = [], 0, 0
    if progress is not None:
        progress("landmarks", 0, len(numbers))
    for start in range(0, len(numbers), _CHUNK):
        path = folder / "landmarks" / f"{start:05d}.npz"
        if not path.is_file():
            reader = reader or mediapipe_face.MediaPipeFace(estimator)
            tell = functools.partial(_tell_done, progress, start, len(numbers))
            _read_chunk(video, reader, numbers[start : start + _CHUNK], path, tell)
        with np.load(path, allow_pickle=False) as stored:
            sure = stored["presence"] if "presence" in stored else np.ones(len(stored["frame"]))
            found.append((stored["frame"], stored["landmarks"], stored["code"], sure))
            names = tuple(stored["names"].tolist())
            crowds, looked = crowds + int(stored["crowds"]), looked + int(stored["looked"])
        if progress is not None:
            progress("landmarks", min(start + _CHUNK, len(numbers)), len(numbers))
    frame, landmarks, code, presence = map(np.concatenate, zip(*found, strict=True))
    tracks = Tracks(frame, landmarks, code, names, presence, video.times_s[frame])
    if crowds > looked / 2:
        raise errors.DataFormatError(
            f"{config.source}: {crowds} of {looked} frames looked at show more than one face. Crop "
            "the video to one person."
        )
    if not len(tracks.frame):
        raise errors.DataFormatError(
            f"{config.source}: a face is missing: none was found in {len(numbers)} frames. They "
            "show the back or the side of a head, a drawing, or somebody too small or too dark; or "
            "the video is not upright. Film a person's face from the front, large and lit."
        )
    if len(tracks.frame) < config.video.fewest_frames:
        raise errors.DataFormatError(
            f"{config.source}: a face was found in {len(tracks.frame)} of {len(numbers)} frames; "
            f"at least {config.video.fewest_frames} are needed. Record the face from the front, "
            "larger and brighter, or check that the video is upright."
        )
    _tell_gaps(config.source, numbers, tracks.frame, video.times_s)
    return tracks, len(numbers) - len(tracks.frame)


def least_presence(folder: pathlib.Path) -> float | None:
    """Finds how sure the landmark net was of the least sure face that was read.

    Args:
      folder: As for `read_tracks`.

    Returns:
      0..1; None where there are no faces, or of an earlier version, which did not say.
    """
    found: list[float] = []
    for path in sorted((folder / "landmarks").glob("*.npz")):
        with np.load(path, allow_pickle=False) as stored:
            if "presence" not in stored:
                return None
            found += stored["presence"].tolist()
    return min(found, default=None)


def _read_chunk(
    video: video_file.VideoFile,
    reader: mediapipe_face.MediaPipeFace,
    numbers: Int[np.ndarray, " c"],
    path: pathlib.Path,
    tell: Callable[[int], None],
) -> None:
    """Reads some frames and stores them whole, so that a stopped run loses one chunk at most."""
    frames, landmarks, codes, presence, crowds, looked = [], [], [], [], 0, 0
    for done, number in enumerate(numbers.tolist()):
        if done:  # Whoever calls tells of beginnings and ends of chunks.
            tell(done)
        image = video.read(number)
        reading = reader.estimate(image)
        if number % _FACE_COUNT_EVERY == 0 or len(numbers) < _FACE_COUNT_EVERY:
            looked += 1
            crowds += reader.count_faces(image) > 1
        if reading is not None and reading.landmarks is not None:
            frames.append(number)
            landmarks.append(reading.landmarks)
            codes.append(reading.code)
            presence.append(reading.confidence)
    with files.atomic_path(path) as temporary:
        np.savez(
            temporary,
            frame=np.array(frames, np.int64),
            landmarks=np.array(landmarks, np.float32).reshape(-1, 478, 3),
            code=np.array(codes, np.float32).reshape(len(codes), len(reader.names)),
            names=np.array(reader.names),
            presence=np.array(presence, np.float32),
            crowds=crowds,
            looked=looked,
        )


def _tell_done(progress: Progress | None, start: int, total: int, done: int) -> None:
    if progress is not None:
        progress("landmarks", start + done, total)


def _tell_gaps(
    source: str, numbers: np.ndarray, seen: np.ndarray, times_s: Float[np.ndarray, " v"]
) -> None:
    """Tells of long parts without a face."""
    known = set(seen.tolist())
    run: list[int] = []
    for number in [*numbers.tolist(), None]:
        if number is not None and number not in known:
            run.append(number)
            continue
        if len(run) >= _LONG_GAP:
            _LOG.warning(
                "%s: no face in frames %d to %d (%.2f to %.2f s); they are left out.",
                source,
                run[0],
                run[-1],
                times_s[run[0]],
                times_s[run[-1]],
            )
        run = []


def find_starts(time: Float[np.ndarray, " f"] | Int[np.ndarray, " f"]) -> Int[np.ndarray, " s"]:
    """Finds where continuous parts of a recording begin.

    Args:
      time: When the frames used are shown, rising, in any unit (frames are one at a constant rate).

    Returns:
      Places in `time`; the first is 0.

    Source: ours; a gap is longer than twice a slow step, where the rate changes as well.
    """
    step = np.diff(time, prepend=time[0])
    slow = np.percentile(step[1:], _SLOW) if len(step) > 1 else 1
    return np.concatenate([[0], np.flatnonzero(step > _GAP * slow)])
