"""A bare video becomes a capture: landmarks, head poses, crops with mattes, expression codes.

Every stage leaves its result in the capture's folder and is passed over when it is there, so that
an interrupted run goes on where it stopped. Another video or option makes the stages that depend on
it, and those after them, anew:

    source.json           what the result of each stage belongs to
    landmarks/00000.npz   landmarks and expression codes of 100 frames each
    structure/            COLMAP's features and matches, while they are needed
    poses.npz             cameras of all frames with a face
    images/, alpha/       square crops, one at a time
    filmed/               where crops reach beyond the picture: which of their pixels do not
    dataset.json          the folder is a capture in EG3D's layout from then on
    clip.json             what the film shows and lacks, in words and frame by frame
    summary.json          written last
"""

import hashlib
import json
import logging
import pathlib
import shutil
from typing import Any

import numpy as np

from ganavatar_jax.core import errors, files
from ganavatar_jax.core.arrays import Bool, Float
from ganavatar_jax.data import data_config, frame_checks
from ganavatar_jax.data.formats import film_stream, video_file
from ganavatar_jax.faces import estimator_config
from ganavatar_jax.films import (
    clip_findings,
    clip_refusals,
    clip_summary,
    matters,
    video_cameras,
    video_images,
    video_landmarks,
    video_truth,
)
from ganavatar_jax.geometry import head_angles

_LOG = logging.getLogger(__name__)

# What each stage leaves, in order; what says that the capture is finished comes first.
_RESULTS = {
    "landmarks": ("landmarks",),
    "poses": (video_cameras.POSES_FILE, "structure"),
    "images": (
        "dataset.json",
        "summary.json",
        clip_summary.FILE,
        "expressions.json",
        "meta.json",
        *video_images.FOLDERS,
    ),
}
# The first stage that an option of a video changes; what is not listed changes them all.
_FIRST_STAGE = {
    "cameras": "poses",
    "fov_deg": "poses",
    "matte": "images",
}
# Options that change no result: where files are, and what is only checked or compared.
_IDLE_OPTIONS = ("matte_model", "truth", "fewest_frames")
_CONFIDENCE = "min_confidence"
_IDLE_ESTIMATOR_OPTIONS = ("model_path", "allow_download", "num_threads")


def prepare_video(
    config: data_config.DataConfig,
    estimator: estimator_config.EstimatorConfig,
    folder: pathlib.Path,
    *,
    progress: video_landmarks.Progress | None = None,
) -> dict[str, Any]:
    """Makes a capture of a video, or goes on where an earlier call stopped.

    Args:
      config: `source` names the video; `resolution`, `crop_extent` and `video` say what to make.
      estimator: How faces are read; MediaPipe's landmarker is needed.
      folder: Where the capture shall be.
      progress: Told how far each stage is.

    Returns:
      What was found: frames, frames without a face, frames left out for their mattes (unlike those
      around them), frames that reach beyond the picture, the median reprojection error in pixels
      of the video and of an image of 512 pixels, the residual of the alignment.

    Raises:
      DataFormatError: the video cannot be read, or shows no face or several, a still, a drawing or
        nothing but a profile; or the truth does not fit it.
      EstimatorError: a model file is missing.
      MissingDependencyError: a package for mattes is missing.
      RunError: the folder cannot be written.

    Source: ours; poses as in head_poses.
    """
    if estimator.name != "mediapipe":
        raise errors.EstimatorError(
            f'data.format "video" needs face landmarks; estimator "{estimator.name}" has none. Set '
            "estimator.name=mediapipe."
        )
    source = files.expand_user(config.source)
    film_stream.check_path(source, key="data.source")
    claims, summary = _claims(source, config, estimator), folder / "summary.json"
    if not config.video.truth and _is_finished(folder, claims):
        return json.loads(summary.read_text("utf-8"))  # Opening the film would decode all of it.
    video = video_file.VideoFile(source, where=str(source))
    if config.video.truth:
        video_truth.check(video, config.video.truth)
    _claim(folder, claims, notes=video.notes)
    if _has_all(folder):
        return _judged(json.loads(summary.read_text("utf-8")), video, config, folder)
    matter = None
    if (
        config.video.matte != "none" and not video.has_alpha
    ):  # Made first: a missing file or package is told at once.
        matter = matters.make_matter(
            config.video.matte,
            model_path=config.video.matte_model,
            allow_download=estimator.allow_download,
        )
    video_cameras.check_available(config, estimator, folder)
    tracks, missing = video_landmarks.read_tracks(video, config, estimator, folder, progress)
    clip_refusals.refuse(config.source, video, tracks)
    solved = video_cameras.solve(video, config, estimator, tracks, folder=folder, progress=progress)
    clip_findings.refuse_profiles(config.source, solved.cam2world[solved.kept])
    facts, solved = _write_frames(
        video, config, tracks, solved, folder=folder, matter=matter, progress=progress
    )
    facts |= {"frames_without_face": missing}
    clip_summary.write(video, config, estimator, tracks, solved, folder=folder, faceless=missing)
    files.write_atomic(summary, json.dumps(facts, indent=1))
    return _judged(facts, video, config, folder)


def _judged(
    facts: dict[str, Any],
    video: video_file.VideoFile,
    config: data_config.DataConfig,
    folder: pathlib.Path,
) -> dict[str, Any]:
    """Adds what the truth says, where it is given."""
    if not config.video.truth:
        return facts
    return facts | video_truth.compare(
        video, folder, config.video.truth, focal_px=facts["focal_px"]
    )


def _has_all(folder: pathlib.Path) -> bool:
    """Whether the files that are written last are there."""
    return (folder / "dataset.json").is_file() and (folder / "summary.json").is_file()


def _is_finished(folder: pathlib.Path, claims: dict[str, Any]) -> bool:
    """Whether a capture was finished for these claims; the film's notes follow from its content."""
    known = _known_claims(folder)
    notes = known.get("landmarks", {}).get("film")
    if notes is None:  # Of an earlier version, which may have read the film another way.
        return False
    claims = claims | {"landmarks": claims["landmarks"] | {"film": notes}}
    return _has_all(folder) and known == claims


def _known_claims(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / "source.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _claim(folder: pathlib.Path, claims: dict[str, Any], *, notes: tuple[str, ...]) -> None:
    """Removes results that do not belong to this video and these options."""
    claims["landmarks"]["film"] = list(notes)
    path, known = files.make_folder(folder) / "source.json", _known_claims(folder)
    _keep_confidence(known, claims, folder)
    if known == claims:
        return
    # Earlier versions noted nothing, and read unusual films another way.
    known.setdefault("landmarks", {}).setdefault("film", [])
    stages = list(_RESULTS)
    fresh = [stage for stage in stages if known.get(stage) != claims[stage]]
    first = stages.index(fresh[0]) if fresh else len(stages)
    # The last stage first: an interruption leaves what the old claims are right about.
    for stage in reversed(stages[first:]):
        for name in _RESULTS[stage]:
            _remove(folder / name)
    files.write_atomic(path, json.dumps(claims, indent=1))


def _keep_confidence(known: dict[str, Any], claims: dict[str, Any], folder: pathlib.Path) -> None:
    """Keeps the limit that faces were read with, where they would be read the same with another."""
    read, asked = (which.get("landmarks", {}).get("estimator", {}) for which in (known, claims))
    before, now = read.get(_CONFIDENCE), asked.get(_CONFIDENCE)
    if before is None or now is None or not (folder / "summary.json").is_file():
        return
    least = video_landmarks.least_presence(folder)
    # All that was found is sure enough, and what was refused before still is.
    if least is not None and before <= now <= least:
        asked[_CONFIDENCE] = before


def _claims(
    source: pathlib.Path,
    config: data_config.DataConfig,
    estimator: estimator_config.EstimatorConfig,
) -> dict[str, Any]:
    """What each stage depends on besides the stages before it."""
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    reading = {k: v for k, v in vars(estimator).items() if k not in _IDLE_ESTIMATOR_OPTIONS}
    claims: dict[str, Any] = {
        "landmarks": {"sha256": digest, "estimator": reading},
        "poses": {"crop_extent": config.crop_extent, "model": video_cameras.MODEL},
        "images": {"resolution": config.resolution},
    }
    for option, value in vars(config.video).items():
        if option not in _IDLE_OPTIONS:
            claims[_FIRST_STAGE.get(option, "landmarks")][option] = value
    if config.video.matte == "onnx":
        # Its name, not its content: a finished capture is used where the file is not, too.
        claims["images"]["matte_model"] = pathlib.Path(str(config.video.matte_model)).name
    return json.loads(json.dumps(claims))


def _remove(path: pathlib.Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise files.write_error(path, error) from error


def _write_frames(
    video: video_file.VideoFile,
    config: data_config.DataConfig,
    tracks: video_landmarks.Tracks,
    solved: video_cameras.Solved,
    *,
    folder: pathlib.Path,
    matter: matters.Matter | None,
    progress: video_landmarks.Progress | None,
) -> tuple[dict[str, Any], video_cameras.Solved]:
    """Writes crops, mattes and codes, and keeps the cameras of frames whose mattes are good.

    Frames that an interrupted call has written stay.
    """
    labels, codes, squares, times_s = [], {}, [], {}
    starts = video_landmarks.find_starts(tracks.time_s)
    parts = np.searchsorted(starts, solved.kept, side="right") - 1
    frames = tracks.frame[solved.kept]
    names = [f"{part:02d}/{frame:06d}" for part, frame in zip(parts, frames, strict=True)]
    for name, index in zip(names, solved.kept.tolist(), strict=True):
        pose = solved.cam2world[index]
        region, intrinsics = video_cameras.crop_region(
            video.size, pose, focal_px=solved.focal_px, extent=config.crop_extent
        )
        squares.append(region)
        values = [*pose.ravel().tolist(), *intrinsics.ravel().tolist()]
        labels.append([f"images/{name}.jpg", values])
        codes[f"images/{name}.jpg"] = tracks.code[index].astype(float).tolist()
        times_s[f"images/{name}.jpg"] = round(float(tracks.time_s[index]), 6)
    begins = _find_shots(tracks.time_s[solved.kept], np.array([values for _, values in labels]))
    views = video_images.Views(video, frames, squares, config.resolution)
    beyond = video_images.write(
        folder, names, views, matter=matter, begins=begins, progress=progress
    )
    leaps = np.zeros(len(names), bool)
    if matter is not None:
        leaps = video_images.drop_leaps(folder, names, begins)
        labels = [label for label, leap in zip(labels, leaps, strict=True) if not leap]
        codes, times_s = ({name: old[name] for name, _ in labels} for old in (codes, times_s))
    files.write_atomic(
        folder / "expressions.json", json.dumps({"names": list(tracks.names), "codes": codes})
    )
    bare = config.video.matte == "none" and not video.has_alpha
    files.write_atomic(
        folder / "meta.json",
        json.dumps({"background": "scene" if bare else "white", "times": times_s}),
    )
    files.write_atomic(folder / "dataset.json", json.dumps({"labels": labels}))
    side_px = float(np.median([square.side_px for square in squares]))
    error_px = float(np.median(solved.residual_px[solved.kept]))
    facts = {
        "frames": len(labels),
        "frames_misread": solved.misread,
        "frames_with_bad_matte": int(leaps.sum()),
        "frames_beyond_picture": int(beyond.sum()),
        **_describe_cameras(solved),
        "reprojection_px": round(error_px, 3),
        "reprojection_px_at_512": round(error_px * 512 / side_px, 3),
        "crop_side_px": round(side_px, 1),
        "focal_px": solved.focal_px,
        "alignment_residual": round(solved.residual, 5),
    }
    return facts, solved._replace(kept=solved.kept[~leaps])


def _describe_cameras(solved: video_cameras.Solved) -> dict[str, Any]:
    """What cameras come from, how far the head moves, and how good they are, degrees."""
    kept = solved.kept
    ranges = clip_findings.ranges_deg(head_angles.from_cameras(solved.cam2world[kept]))
    facts: dict[str, Any] = {
        f"{name}_range_deg": [round(float(v), 1) for v in ranges[:, axis]]
        for axis, name in enumerate(("yaw", "pitch", "roll"))
    }
    sigma = clip_findings.uncertainty_deg(solved.sigma_deg[kept])
    facts |= {"cameras": solved.cameras, "frames_refined": int(solved.refined[kept].sum())}
    return facts | ({"uncertainty_deg": round(sigma, 1)} if np.isfinite(sigma) else {})


def _find_shots(
    time_s: Float[np.ndarray, " k"], label25: Float[np.ndarray, "k 25"]
) -> Bool[np.ndarray, " k"]:
    """Marks frames before which the recording has a gap or a cut."""
    begins = frame_checks.find_jumps(frame_checks.turns_deg(label25, [""] * len(time_s)))
    begins[video_landmarks.find_starts(time_s)] = True
    return begins
