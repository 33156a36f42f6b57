"""Cameras of a video in the head frame of the base generator.

A model of people's landmarks gives every frame a pose, and how sure it is (`head_poses`). Where the
head turns far enough, `video_structure` then finds what the picture itself says; its cameras are
taken frame by frame where both agree (`pose_agreement`). What lies between stays with the model.

The focal length cannot be seen from a head. It is the one at which the head stands at the distance
that the base generator knows, unless the field of view is given.
"""

import logging
import pathlib
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ganavatar_jax.core import files
from ganavatar_jax.core.arrays import Bool, Float, Int, UInt8
from ganavatar_jax.data import data_config
from ganavatar_jax.data.formats import conventions, video_file
from ganavatar_jax.faces import estimator_config, regions
from ganavatar_jax.films import (
    clip_findings,
    face_model,
    head_poses,
    matting,
    pose_agreement,
    rigid_parts,
    video_landmarks,
    video_structure,
)
from ganavatar_jax.geometry import (
    ffhq_camera,
    head_angles,
    rotation_vectors,
)

MODEL = "face_model 1"  # what poses are found with; captures of another one find them anew
POSES_FILE = "poses.npz"  # what `solve` has found, in the capture's folder

_LOG = logging.getLogger(__name__)

_RADIUS = ffhq_camera.RADIUS  # Distance of the camera in the median frame, world units.
# Frames whose landmarks fit the rigid face worse than this many medians were misread.
_MISREAD = 4.0
_PICTURE_PX = 384  # Side of the crops in which features are looked for.
_FEWEST_POINTS = 30  # Fewer do not fix a camera reliably.
_FEWEST_SHARE = 0.5  # Of frames that see so many; else the structure is not trusted.
# A head that turns and nods less than this shows features from one side only: they cannot tell a
# turn from a shift, and would only shake the cameras.
_LEAST_MOTION_DEG = 15.0


class Solved(NamedTuple):
    """Cameras in the head frame of the base generator.

    Attributes:
      cam2world: Poses.
      focal_px: Focal length, pixels of the video.
      residual_px: Median distance of projected points from what was seen (landmarks or features),
        each frame, pixels of the video.
      kept: Frames whose cameras are known.
      misread: Number of frames whose landmarks did not fit the rigid face.
      residual: Of the alignment, world units.
      cameras: "colmap" or "landmarks": what the poses come from.
      sigma_deg: Standard deviations of each frame's yaw, pitch and roll; NaN where not known.
      refined: Frames whose cameras features of the picture have refined.
      second_deg: Angle to the camera that a second method finds; NaN without one.
    """

    cam2world: Float[np.ndarray, "f 4 4"]
    focal_px: float
    residual_px: Float[np.ndarray, " f"]
    kept: Int[np.ndarray, " k"]
    misread: int
    residual: float
    cameras: str
    sigma_deg: Float[np.ndarray, "f 3"]
    refined: Bool[np.ndarray, " f"]
    second_deg: Float[np.ndarray, " f"]


def check_available(
    config: data_config.DataConfig,
    estimator: estimator_config.EstimatorConfig,
    folder: pathlib.Path,
) -> None:
    """Refuses to begin what `solve` cannot finish.

    Args:
      config: `video` says how cameras are found.
      estimator: Whether a missing model file may be fetched.
      folder: Where `solve` leaves its result; once it is there, nothing is needed.

    Raises:
      MissingDependencyError: pycolmap is needed and not installed.
      EstimatorError: the segmenter's file is needed and missing.
    """
    if config.video.cameras == "colmap" and not (folder / POSES_FILE).is_file():
        video_structure.check_available()
        _load_segmenter(config, estimator)


def solve(
    video: video_file.VideoFile,
    config: data_config.DataConfig,
    estimator: estimator_config.EstimatorConfig,
    tracks: video_landmarks.Tracks,
    *,
    folder: pathlib.Path,
    progress: video_landmarks.Progress | None = None,
) -> Solved:
    """Finds the camera of every frame, or takes up what an earlier call has found.

    Args:
      video: The recording.
      config: `video` says how.
      estimator: Where the landmarker's model file is; it holds the canonical face.
      tracks: Landmarks.
      folder: The result goes to `POSES_FILE` in it.
      progress: Told how far the stage is.

    Returns:
      The cameras.

    Raises:
      MissingDependencyError: pycolmap is not installed.
      EstimatorError: a model file is missing.
      RunError: the folder cannot be written.

    Source: module text.
    """
    path = folder / POSES_FILE
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return Solved(**{k: v if v.ndim else v.item() for k, v in stored.items()})
    if progress is not None:
        progress("poses", 0, len(tracks.frame))
    solved, poses = _from_landmarks(video, config, estimator, tracks)
    if config.video.cameras == "colmap":
        motion = _motion_deg(solved)
        if motion < _LEAST_MOTION_DEG:
            _LOG.info(
                "%s: the head moves %.0f degrees; below %.0f, cameras come from landmarks alone.",
                config.source,
                motion,
                _LEAST_MOTION_DEG,
            )
        else:
            solved = _from_structure(
                video,
                config,
                tracks,
                solved,
                poses,
                segmenter=_load_segmenter(config, estimator),
                folder=folder / "structure",
                progress=progress,
            )
    solved = solved._replace(second_deg=_second_opinion(estimator, tracks, solved.cam2world))
    with files.atomic_path(path) as temporary:
        np.savez(temporary, **solved._asdict())
    shutil.rmtree(folder / "structure", ignore_errors=True)
    return solved


def crop_region(
    size_px: tuple[int, int], pose: Float[np.ndarray, "4 4"], *, focal_px: float, extent: float
) -> tuple[regions.Region, Float[np.ndarray, "3 3"]]:
    """Finds the square around the head's centre, and its camera's intrinsics.

    Args:
      size_px: Width and height of the video.
      pose: cam2world in the head frame.
      focal_px: Focal length, pixels of the video.
      extent: Side of the square at the head's distance, world units.

    Returns:
      region: The square in the frame.
      intrinsics: Normalised by the square's side.
    """
    local = -pose[:3, :3].T @ pose[:3, 3]
    center = focal_px * local[:2] / local[2] + np.array(size_px) / 2.0
    side = extent * focal_px / local[2]
    intrinsics = conventions.normalize_intrinsics(
        np.array([focal_px, focal_px]),
        np.array(size_px) / 2.0 - center + side / 2.0,
        size=(side, side),
    )
    return regions.Region(float(center[0]), float(center[1]), float(side)), intrinsics


def _from_landmarks(
    video: video_file.VideoFile,
    config: data_config.DataConfig,
    estimator: estimator_config.EstimatorConfig,
    tracks: video_landmarks.Tracks,
) -> tuple[Solved, head_poses.HeadPoses]:
    """Explains all landmarks by one person who moves; what does not fit was misread."""
    model = face_model.load_face_model()
    width = video.size[0]
    given = config.video.fov_deg
    found = head_poses.solve(
        tracks.landmarks,
        model,
        center_px=np.array(video.size) / 2.0,
        distance=_RADIUS,
        focal_px=width / (2.0 * np.tan(np.radians(given) / 2.0)) if given else None,
        starts=video_landmarks.find_starts(tracks.time_s),
    )
    usual = np.median(found.residual_px)
    kept = np.flatnonzero(found.residual_px <= _MISREAD * usual)
    side_px = config.crop_extent * found.focal_px / np.median(found.translation[:, 2])
    solved = Solved(
        head_angles.to_cameras(found.rotation, found.translation),
        found.focal_px,
        found.residual_px,
        kept,
        misread=len(tracks.frame) - len(kept),
        residual=float(usual / side_px * config.crop_extent),
        cameras="landmarks",
        sigma_deg=found.sigma_deg,
        refined=np.zeros(len(tracks.frame), bool),
        second_deg=np.full(len(tracks.frame), np.nan),
    )
    return solved, found


def _motion_deg(solved: Solved) -> float:
    """How far the head turns or nods, whichever is more."""
    angles = head_angles.from_cameras(solved.cam2world[solved.kept])
    return float(np.ptp(clip_findings.ranges_deg(angles)[:, :2], axis=0).max())


def _second_opinion(
    estimator: estimator_config.EstimatorConfig,
    tracks: video_landmarks.Tracks,
    cam2world: Float[np.ndarray, "f 4 4"],
) -> Float[np.ndarray, " f"]:
    """Angles to the poses of MediaPipe's own metric face, which knows no person and no habits."""
    placed = face_model.load_canonical(estimator)
    seen = tracks.landmarks[:, : len(placed)].astype(np.float64)
    rotation = head_poses.fit_mean(seen, placed)[0]
    return rotation_vectors.angle_deg(np.swapaxes(rotation, 1, 2), cam2world[:, :3, :3])


def _from_structure(
    video: video_file.VideoFile,
    config: data_config.DataConfig,
    tracks: video_landmarks.Tracks,
    start: Solved,
    poses: head_poses.HeadPoses,
    *,
    segmenter: matting.SelfieSegmenter,
    folder: pathlib.Path,
    progress: video_landmarks.Progress | None,
) -> Solved:
    """Refines the cameras by features of the head, frame by frame where both agree."""
    kept = start.kept
    squares = [
        crop_region(video.size, pose, focal_px=start.focal_px, extent=config.crop_extent)[0]
        for pose in start.cam2world[kept]
    ]
    pictures = _pictures(video, tracks, kept, squares, segmenter=segmenter)
    intrinsics = _crop_intrinsics(video.size, squares, start.focal_px)
    cameras = start.cam2world[kept]
    video_structure.match_pictures(folder, pictures, cameras, intrinsics, progress=progress)
    found, agreed, problem = _adjust(folder, poses.take(kept), cameras, intrinsics, progress)
    if problem:
        return _stay(config.source, start, problem)
    if not agreed.accepted.all():
        _LOG.warning(
            "%s: features agree with landmarks in %d of %d frames; the others keep the cameras of "
            "the landmarks.",
            config.source,
            agreed.accepted.sum(),
            len(kept),
        )
    side = np.array([square.side_px for square in squares])
    refined = kept[agreed.accepted]
    every, every_px = start.cam2world.copy(), start.residual_px.copy()
    sigma, marks = start.sigma_deg.copy(), start.refined.copy()
    every[refined] = agreed.cam2world[agreed.accepted]
    every_px[refined] = (found.residual_px * side / _PICTURE_PX)[agreed.accepted]
    sigma[refined] = agreed.sigma_deg[agreed.accepted]
    marks[refined] = True
    return start._replace(
        cam2world=every, residual_px=every_px, sigma_deg=sigma, refined=marks, cameras="colmap"
    )


def _adjust(
    folder: pathlib.Path,
    poses: head_poses.HeadPoses,
    cameras: Float[np.ndarray, "k 4 4"],
    intrinsics_px: Float[np.ndarray, "k 3 3"],
    progress: video_landmarks.Progress | None,
) -> tuple[video_structure.Structure, pose_agreement.Agreement, str]:
    """Adjusts a structure pass by pass; what it shows, and why it is not to be believed."""
    for index in range(video_structure.passes()):
        if progress is not None:
            progress("cameras", index, video_structure.passes())
        found = video_structure.adjust(folder, cameras, intrinsics_px, index=index)
        known = found.seen >= _FEWEST_POINTS
        agreed = pose_agreement.agree(poses, found.cam2world, known)
        cameras = agreed.cam2world
        if known.mean() < _FEWEST_SHARE:
            shown = f"{known.sum()} of {len(known)} frames show enough features of the head"
            return found, agreed, shown
    if progress is not None:
        progress("cameras", video_structure.passes(), video_structure.passes())
    problem = ""
    if agreed.share < _FEWEST_SHARE:
        problem = (
            f"features and landmarks agree in {agreed.share:.0%} of the frames (median difference "
            f"{agreed.median_deg:.1f} degrees)"
        )
    return found, agreed, problem


def _stay(source: str, start: Solved, problem: str) -> Solved:
    """Keeps the landmarks' cameras, and says why."""
    _LOG.warning(
        "%s: %s. Cameras come from landmarks alone. Film the head larger and sharper and let it "
        "turn further.",
        source,
        problem,
    )
    return start


def _load_segmenter(
    config: data_config.DataConfig, estimator: estimator_config.EstimatorConfig
) -> matting.SelfieSegmenter:
    """Loads what tells the head from the background where features are looked for."""
    given = config.video.matte_model if config.video.matte != "onnx" else None
    return matting.SelfieSegmenter(model_path=given, allow_download=estimator.allow_download)


def _pictures(
    video: video_file.VideoFile,
    tracks: video_landmarks.Tracks,
    kept: Int[np.ndarray, " k"],
    squares: list[regions.Region],
    *,
    segmenter: matting.SelfieSegmenter,
) -> Iterator[tuple[UInt8[np.ndarray, "s s 3"], Bool[np.ndarray, "s s"]]]:
    """Yields crops, and where they show the rigid part of the head."""
    size = _PICTURE_PX, _PICTURE_PX
    for index, square in zip(kept.tolist(), squares, strict=True):
        picture = regions.crop(video.read(int(tracks.frame[index])), square, size_px=_PICTURE_PX)
        local = regions.to_region(tracks.landmarks[index, :, :2], square) * _PICTURE_PX
        mask = rigid_parts.rigid_mask(local, size_px=size) & (segmenter.coverage(picture) > 0.5)
        yield picture, mask & regions.inside(square, video.size, size_px=_PICTURE_PX)


def _crop_intrinsics(
    size_px: tuple[int, int], squares: list[regions.Region], focal_px: float
) -> Float[np.ndarray, "k 3 3"]:
    found = np.tile(np.eye(3), (len(squares), 1, 1))
    for index, square in enumerate(squares):
        scale = _PICTURE_PX / square.side_px
        found[index, 0, 0] = found[index, 1, 1] = focal_px * scale
        center = np.array([square.center_x_px, square.center_y_px])
        corner = center - square.side_px / 2.0
        found[index, :2, 2] = (np.array(size_px) / 2.0 - corner) * scale
    return found
