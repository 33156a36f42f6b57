"""A bare video becomes a capture: landmarks, head poses, crops with mattes, expression codes.

Every stage leaves its result in the capture's folder and is passed over when it is there, so that
an interrupted run goes on where it stopped:

    source.json           what the results belong to; another video or option starts anew
    landmarks/00000.npz   landmarks and expression codes of 100 frames each
    poses.npz             head poses of all frames with a face
    images/, alpha/       square crops, one at a time
    dataset.json          written last: the folder is a capture in EG3D's layout then
"""

import hashlib
import json
import logging
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Float, Int, UInt8
from ganavatar_jax.data import alignment, data_config
from ganavatar_jax.data.formats import conventions, video_file
from ganavatar_jax.faces import (
    canonical_face,
    estimators,
    head_poses,
    matters,
    mediapipe_face,
    model_files,
    regions,
)
from ganavatar_jax.geometry import point_models

_LOG = logging.getLogger(__name__)

# Called with the stage, the number of its finished frames and of all its frames.
Progress = Callable[[str, int, int], None]

_CHUNK = 100
_RADIUS = 2.7  # Distance of the camera in the median frame, world units.
_FACE_COUNT_EVERY = 20
_LONG_GAP = 25  # Frames without a face that are told about.
_JPEG_QUALITY = 97
# Frames whose landmarks fit the rigid face worse than this many medians were misread.
_MISREAD = 4.0


class Tracks(NamedTuple):
    """Landmarks of the frames with a face, in order of time.

    Attributes:
      frame: Number of each frame in the video.
      landmarks: Pixels of the video.
      code: Expression codes.
      names: Their names.
    """

    frame: Int[np.ndarray, " f"]
    landmarks: Float[np.ndarray, "f 478 3"]
    code: Float[np.ndarray, "f e"]
    names: tuple[str, ...]


def prepare_video(
    config: data_config.DataConfig,
    estimator: estimators.EstimatorConfig,
    folder: pathlib.Path,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Makes a capture of a video, or goes on where an earlier call stopped.

    Args:
      config: `source` names the video; `resolution`, `crop_extent` and `video` say what to make.
      estimator: How faces are read; MediaPipe's landmarker is needed.
      folder: Where the capture shall be.
      progress: Told how far each stage is.

    Returns:
      What was found: frames, frames without a face, the median reprojection error in pixels of the
      video and of an image of 512 pixels, the residual of the alignment.

    Raises:
      DataFormatError: the video cannot be read, or shows no face or several.
      EstimatorError: a model file is missing.
      MissingDependencyError: a package for mattes is missing.
      RunError: the folder cannot be written.

    Source: ours; poses as in faces.head_poses.
    """
    if estimator.name != "mediapipe":
        raise errors.EstimatorError(
            f'data.format "video" needs face landmarks; estimator "{estimator.name}" has none. Set '
            "estimator.name=mediapipe."
        )
    source = pathlib.Path(config.source).expanduser()
    if not source.is_file():
        raise errors.DataFormatError(
            f"{source}: there is no such video. Set data.source to a video file."
        )
    _claim(folder, source, config, estimator)
    summary = folder / "summary.json"
    if (folder / "dataset.json").is_file() and summary.is_file():
        return json.loads(summary.read_text())
    matter = None
    if config.video.matte != "none":  # Made first: a missing file or package is told at once.
        matter = matters.make_matter(config.video.matte, model_path=config.video.matte_model)
    video = video_file.VideoFile(source, where=str(source))
    tracks, missing = _read_tracks(video, config, estimator, folder, progress)
    solved = _solve_poses(video, tracks, estimator, folder)
    response = (config.video.yaw_response, config.video.pitch_response)
    solved = solved._replace(cam2world=head_poses.amplify_turns(solved.cam2world, response))
    facts = _write_frames(
        video, config, tracks, solved, folder=folder, matter=matter, progress=progress
    )
    facts |= {"frames_without_face": missing}
    files.write_atomic(summary, json.dumps(facts, indent=1))
    return facts


def _claim(
    folder: pathlib.Path,
    source: pathlib.Path,
    config: data_config.DataConfig,
    estimator: estimators.EstimatorConfig,
) -> None:
    """Empties the folder unless its content belongs to this video and these options."""
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    video = {k: v for k, v in vars(config.video).items() if k != "matte_model"}
    if config.video.matte == "onnx":
        # Its name, not its content: a finished capture is used where the file is not, too.
        video["matte_model"] = pathlib.Path(str(config.video.matte_model)).name
    claim = {
        "sha256": digest,
        "resolution": config.resolution,
        "crop_extent": config.crop_extent,
        "video": video,
        "estimator": {k: v for k, v in vars(estimator).items() if k != "model_path"},
    }
    path = files.make_folder(folder) / "source.json"
    if path.is_file() and json.loads(path.read_text()) == json.loads(json.dumps(claim)):
        return
    for stale in sorted(folder.rglob("*"), reverse=True):
        if stale.is_file():
            stale.unlink()
    files.write_atomic(path, json.dumps(claim, indent=1))


def _read_tracks(
    video: video_file.VideoFile,
    config: data_config.DataConfig,
    estimator: estimators.EstimatorConfig,
    folder: pathlib.Path,
    progress: Progress | None,
) -> tuple[Tracks, int]:
    numbers = np.arange(0, video.count, config.video.stride)
    if config.video.max_frames:
        numbers = numbers[: config.video.max_frames]
    reader: mediapipe_face.MediaPipeFace | None = None
    names: tuple[str, ...] = ()
    found, crowds, looked = [], 0, 0
    for start in range(0, len(numbers), _CHUNK):
        path = folder / "landmarks" / f"{start:05d}.npz"
        if not path.is_file():
            reader = reader or mediapipe_face.MediaPipeFace(estimator)
            _read_chunk(video, reader, numbers[start : start + _CHUNK], path)
        with np.load(path, allow_pickle=False) as stored:
            found.append((stored["frame"], stored["landmarks"], stored["code"]))
            names = tuple(stored["names"].tolist())
            crowds, looked = crowds + int(stored["crowds"]), looked + int(stored["looked"])
        if progress is not None:
            progress("landmarks", min(start + _CHUNK, len(numbers)), len(numbers))
    frame, landmarks, code = (np.concatenate(parts) for parts in zip(*found, strict=True))
    tracks = Tracks(frame, landmarks, code, names)
    if crowds > looked / 2:
        raise errors.DataFormatError(
            f"{config.source}: {crowds} of {looked} frames looked at show more than one face. Crop "
            "the video to one person."
        )
    if len(tracks.frame) < config.video.fewest_frames:
        raise errors.DataFormatError(
            f"{config.source}: a face was found in {len(tracks.frame)} of {len(numbers)} frames; "
            f"at least {config.video.fewest_frames} are needed. Record the face larger and "
            "brighter, or check that the video is upright."
        )
    _tell_gaps(config.source, numbers, tracks.frame)
    return tracks, len(numbers) - len(tracks.frame)


def _read_chunk(
    video: video_file.VideoFile,
    reader: mediapipe_face.MediaPipeFace,
    numbers: Int[np.ndarray, " c"],
    path: pathlib.Path,
) -> None:
    frames, landmarks, codes, crowds, looked = [], [], [], 0, 0
    for number in numbers.tolist():
        image = video.read(number)
        reading = reader.estimate(image)
        if number % _FACE_COUNT_EVERY == 0 or len(numbers) < _FACE_COUNT_EVERY:
            looked += 1
            crowds += reader.count_faces(image) > 1
        if reading is not None and reading.landmarks is not None:
            frames.append(number)
            landmarks.append(reading.landmarks)
            codes.append(reading.code)
    with files.atomic_path(path) as temporary:
        np.savez(
            temporary,
            frame=np.array(frames, np.int64),
            landmarks=np.array(landmarks, np.float32).reshape(-1, 478, 3),
            code=np.array(codes, np.float32).reshape(len(codes), len(reader.names)),
            names=np.array(reader.names),
            crowds=crowds,
            looked=looked,
        )


def _tell_gaps(source: str, numbers: np.ndarray, seen: np.ndarray) -> None:
    known = set(seen.tolist())
    run: list[int] = []
    for number in [*numbers.tolist(), None]:
        if number is not None and number not in known:
            run.append(number)
            continue
        if len(run) >= _LONG_GAP:
            _LOG.warning(
                "%s: no face in frames %d to %d; they are left out.", source, run[0], run[-1]
            )
        run = []


def _starts(frame: Int[np.ndarray, " f"]) -> Int[np.ndarray, " s"]:
    """Places at which a continuous part of the recording begins."""
    step = np.diff(frame, prepend=frame[0])
    usual = np.median(step[1:]) if len(step) > 1 else 1
    return np.concatenate([[0], np.flatnonzero(step > 2 * usual)])


class Solved(NamedTuple):
    """Cameras in the head frame of the base generator.

    Attributes:
      cam2world: Poses.
      focal_px: Focal length, pixels of the video.
      residual_px: Median landmark residual of each frame, pixels of the video.
      kept: Frames whose landmarks fit the rigid face.
      residual: Of the alignment, world units.
    """

    cam2world: Float[np.ndarray, "f 4 4"]
    focal_px: float
    residual_px: Float[np.ndarray, " f"]
    kept: Int[np.ndarray, " k"]
    residual: float


def _solve_poses(
    video: video_file.VideoFile,
    tracks: Tracks,
    estimator: estimators.EstimatorConfig,
    folder: pathlib.Path,
) -> Solved:
    path = folder / "poses.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return Solved(
                stored["cam2world"],
                float(stored["focal_px"]),
                stored["residual_px"],
                stored["kept"],
                float(stored["residual"]),
            )
    head = alignment.load_head_landmarks()
    task = model_files.find(
        model_files.FACE_LANDMARKER,
        path=estimator.model_path,
        allow_download=estimator.allow_download,
    )
    canonical = canonical_face.load(task)[head.indices]
    # How long a world unit is on the canonical face; the person's own size follows below.
    unit_cm = (
        1.0
        / point_models.align(
            canonical, point_models.PointModel(head.model.mean, head.model.modes[..., :0], 1.0)
        ).scale
    )
    found = head_poses.solve(
        tracks.landmarks[:, head.indices],
        canonical,
        center_px=np.array(video.size) / 2.0,
        distance_cm=_RADIUS * unit_cm,
        starts=_starts(tracks.frame),
    )
    aligned = point_models.align(found.points, head.model)
    poses = np.tile(np.eye(4), (len(tracks.frame), 1, 1))
    # World to face is the inverse similarity; face to camera the tracked pose. Distances in world
    # units are `scale` times centimetres.
    poses[:, :3, :3] = aligned.rotation @ np.swapaxes(found.rotation, 1, 2)
    origin_cm = -np.einsum("fji,fj->fi", found.rotation, found.translation)
    poses[:, :3, 3] = aligned.scale * origin_cm @ aligned.rotation.T + aligned.translation
    kept = np.flatnonzero(found.residual_px <= _MISREAD * np.median(found.residual_px))
    residual = float(np.median(aligned.residual))
    with files.atomic_path(path) as temporary:
        np.savez(
            temporary,
            cam2world=poses,
            focal_px=found.focal_px,
            residual_px=found.residual_px,
            kept=kept,
            residual=residual,
        )
    return Solved(poses, found.focal_px, found.residual_px, kept, residual)


def _write_frames(
    video: video_file.VideoFile,
    config: data_config.DataConfig,
    tracks: Tracks,
    solved: Solved,
    *,
    folder: pathlib.Path,
    matter: matters.Matter | None,
    progress: Progress | None,
) -> dict[str, Any]:
    labels, codes = [], {}
    parts = np.searchsorted(_starts(tracks.frame), np.arange(len(tracks.frame)), side="right") - 1
    for done, index in enumerate(solved.kept.tolist(), start=1):
        name = f"{parts[index]:02d}/{tracks.frame[index]:06d}"
        pose = solved.cam2world[index]
        region, intrinsics = _crop_region(video, pose, solved.focal_px, config.crop_extent)
        labels.append(
            [f"images/{name}.jpg", [*pose.ravel().tolist(), *intrinsics.ravel().tolist()]]
        )
        codes[f"images/{name}.jpg"] = tracks.code[index].astype(float).tolist()
        place = folder / "images" / f"{name}.jpg"
        if not place.is_file():
            image = regions.crop(
                video.read(int(tracks.frame[index])), region, size_px=config.resolution
            )
            _save_frame(place, image, folder / "alpha" / f"{name}.png", matter)
        if progress is not None:
            progress("images", done, len(solved.kept))
    files.write_atomic(
        folder / "expressions.json", json.dumps({"names": list(tracks.names), "codes": codes})
    )
    background = "scene" if config.video.matte == "none" else "white"
    files.write_atomic(folder / "meta.json", json.dumps({"background": background}))
    files.write_atomic(folder / "dataset.json", json.dumps({"labels": labels}))
    side_px = config.crop_extent * solved.focal_px / _RADIUS
    error_px = float(np.median(solved.residual_px[solved.kept]))
    return {
        "frames": len(labels),
        "frames_misread": len(tracks.frame) - len(solved.kept),
        "reprojection_px": round(error_px, 3),
        "reprojection_px_at_512": round(error_px * 512 / side_px, 3),
        "crop_side_px": round(side_px, 1),
        "alignment_residual": round(solved.residual, 5),
    }


def _crop_region(
    video: video_file.VideoFile, pose: np.ndarray, focal_px: float, extent: float
) -> tuple[regions.Region, np.ndarray]:
    """Finds the square around the head's centre, and its camera's intrinsics."""
    local = -pose[:3, :3].T @ pose[:3, 3]
    center = focal_px * local[:2] / local[2] + np.array(video.size) / 2.0
    side = extent * focal_px / local[2]
    intrinsics = conventions.normalize_intrinsics(
        np.array([focal_px, focal_px]),
        np.array(video.size) / 2.0 - center + side / 2.0,
        size=(side, side),
    )
    return regions.Region(float(center[0]), float(center[1]), float(side)), intrinsics


def _save_frame(
    place: pathlib.Path,
    image: UInt8[np.ndarray, "h w 3"],
    matte_place: pathlib.Path,
    matter: matters.Matter | None,
) -> None:
    if matter is not None:
        matte = matter.matte(image)
        covered = matte.alpha[..., None] / 255.0
        white = np.rint(matte.foreground * covered + 255.0 * (1.0 - covered))
        image = white.astype(np.uint8)
        with files.atomic_path(matte_place) as temporary:
            Image.fromarray(matte.alpha).save(temporary, format="PNG")
    with files.atomic_path(place) as temporary:
        Image.fromarray(image).save(temporary, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
