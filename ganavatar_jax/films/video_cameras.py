"""Cameras of a video in the head frame of the base generator.

Landmarks give every frame a pose (`head_poses`), which shows too little of turns and, above
all, of nods: the landmark net pulls faces towards the frontal view. With `cameras` "colmap" these
poses are only a start, and `video_structure` finds what the picture itself says; with "landmarks",
turns and nods are divided by the shares of them that such poses usually show.

The focal length cannot be seen from a head. It is the one at which the head stands at the distance
that the base generator knows.
"""

import logging
import pathlib
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ganavatar_jax.core import files
from ganavatar_jax.core.arrays import Bool, Float, Int, UInt8
from ganavatar_jax.data import data_config, head_alignment, head_landmarks
from ganavatar_jax.data.formats import conventions, video_file
from ganavatar_jax.faces import canonical_face, estimator_config, model_files, regions
from ganavatar_jax.films import head_poses, matting, rigid_parts, video_landmarks, video_structure
from ganavatar_jax.geometry import ffhq_camera, point_models, pose_errors, similarity

POSES_FILE = "poses.npz"  # what `solve` has found, in the capture's folder

_LOG = logging.getLogger(__name__)

_RADIUS = ffhq_camera.RADIUS  # Distance of the camera in the median frame, world units.
# Frames whose landmarks fit the rigid face worse than this many medians were misread.
_MISREAD = 4.0
_PICTURE_PX = 384  # Side of the crops in which features are looked for.
_FEWEST_POINTS = 30  # Fewer do not fix a camera reliably.
_FEWEST_SHARE = 0.5  # Of frames that see so many; else the structure is not trusted.
# Landmarks show at least 0.6 of a nod: for a larger difference, the structure is wrong.
_LARGEST_CHANGE_DEG = 15.0
_HEAD_FIT_VIEWS = 120


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
    solved = _from_landmarks(video, estimator, tracks)
    refined = None
    if config.video.cameras == "colmap":
        refined = _from_structure(
            video,
            config,
            tracks,
            solved,
            segmenter=_load_segmenter(config, estimator),
            folder=folder / "structure",
            progress=progress,
        )
    if refined is None:
        response = (config.video.yaw_response, config.video.pitch_response)
        refined = solved._replace(cam2world=head_poses.amplify_turns(solved.cam2world, response))
    with files.atomic_path(path) as temporary:
        np.savez(temporary, **refined._asdict())
    shutil.rmtree(folder / "structure", ignore_errors=True)
    return refined


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
    estimator: estimator_config.EstimatorConfig,
    tracks: video_landmarks.Tracks,
) -> Solved:
    """Solves one rigid face for the whole video; what does not fit it was misread."""
    head = head_landmarks.load_head_landmarks()
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
        starts=video_landmarks.find_starts(tracks.time_s),
    )
    aligned = point_models.align(found.points, head.model)
    # The tracked pose carries the face, in centimetres, to the camera.
    poses = np.tile(np.eye(4), (len(tracks.frame), 1, 1))
    poses[:, :3, :3] = np.swapaxes(found.rotation, 1, 2)
    poses[:, :3, 3] = -np.einsum("fji,fj->fi", found.rotation, found.translation)
    poses = similarity.move_cameras(poses, aligned)
    kept = np.flatnonzero(found.residual_px <= _MISREAD * np.median(found.residual_px))
    return Solved(
        poses,
        found.focal_px,
        found.residual_px,
        kept,
        misread=len(poses) - len(kept),
        residual=float(np.median(aligned.residual)),
        cameras="landmarks",
        sigma_deg=np.full((len(poses), 3), np.nan),
        refined=np.zeros(len(poses), bool),
        second_deg=np.full(len(poses), np.nan),
    )


def _from_structure(
    video: video_file.VideoFile,
    config: data_config.DataConfig,
    tracks: video_landmarks.Tracks,
    start: Solved,
    *,
    segmenter: matting.SelfieSegmenter,
    folder: pathlib.Path,
    progress: video_landmarks.Progress | None,
) -> Solved | None:
    """Adjusts the cameras to features of the head; None where these do not suffice."""
    kept, landmarks = start.kept, tracks.landmarks[start.kept]
    poses, focal = start.cam2world[kept], start.focal_px
    squares = [
        crop_region(video.size, pose, focal_px=focal, extent=config.crop_extent)[0]
        for pose in poses
    ]
    pictures = _pictures(video, tracks, kept, squares, segmenter=segmenter)
    intrinsics = _crop_intrinsics(video.size, squares, focal)
    video_structure.match_pictures(folder, pictures, poses, intrinsics, progress=progress)
    found, residual = None, start.residual
    if progress is not None:
        progress("cameras", 0, video_structure.passes())
    for index in range(video_structure.passes()):
        found = video_structure.adjust(folder, poses, intrinsics, index=index)
        known = found.seen >= _FEWEST_POINTS
        if progress is not None:
            progress("cameras", index + 1, video_structure.passes())
        problem = _distrust(found.cam2world, start.cam2world[kept], known)
        if not problem:
            try:
                poses, residual = _into_head_frame(
                    found.cam2world, landmarks, known, focal=focal, size_px=video.size
                )
            except ValueError as error:
                problem = f"the head cannot be placed ({error})"
        if problem:
            _LOG.warning(
                "%s: %s. Cameras come from landmarks alone; turns and nods are less exact. Film "
                "the head larger and sharper and let it turn further.",
                config.source,
                problem,
            )
            return None
        if index + 1 < video_structure.passes():
            focal, poses = _at_usual_distance(poses, known, focal)
            intrinsics = _crop_intrinsics(video.size, squares, focal)
    assert found is not None
    side = np.array([square.side_px for square in squares])
    every, every_px = start.cam2world.copy(), start.residual_px.copy()
    every[kept], every_px[kept] = poses, found.residual_px * side / _PICTURE_PX
    trusted = kept[found.seen >= _FEWEST_POINTS]
    return start._replace(
        cam2world=every,
        focal_px=focal,
        residual_px=every_px,
        kept=trusted,
        residual=residual,
        cameras="colmap",
        refined=np.isin(np.arange(len(every)), trusted),
    )


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
    steps = (np.arange(_PICTURE_PX) + 0.5) / _PICTURE_PX
    size = _PICTURE_PX, _PICTURE_PX
    for index, square in zip(kept.tolist(), squares, strict=True):
        picture = regions.crop(video.read(int(tracks.frame[index])), square, size_px=_PICTURE_PX)
        local = regions.to_region(tracks.landmarks[index, :, :2], square) * _PICTURE_PX
        mask = rigid_parts.rigid_mask(local, size_px=size) & (segmenter.coverage(picture) > 0.5)
        corner = np.array([square.center_x_px, square.center_y_px]) - square.side_px / 2.0
        inside = [
            (c + steps * square.side_px > 0) & (c + steps * square.side_px < length)
            for c, length in zip(corner, video.size, strict=True)
        ]
        yield picture, mask & inside[0][None] & inside[1][:, None]


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


def _distrust(
    found: Float[np.ndarray, "k 4 4"],
    start: Float[np.ndarray, "k 4 4"],
    known: Bool[np.ndarray, " k"],
) -> str:
    """Says why the structure cannot be right, or nothing."""
    if known.mean() < _FEWEST_SHARE:
        return f"{known.sum()} of {len(known)} frames show enough features of the head"
    change = pose_errors.compare_poses(found[known], start[known]).rotation_deg
    if np.median(change) > _LARGEST_CHANGE_DEG:
        return f"features and landmarks disagree by {np.median(change):.0f} degrees (median)"
    return ""


def _into_head_frame(
    cam2world: Float[np.ndarray, "k 4 4"],
    landmarks_px: Float[np.ndarray, "k 478 3"],
    known: Bool[np.ndarray, " k"],
    *,
    focal: float,
    size_px: tuple[int, int],
) -> tuple[Float[np.ndarray, "k 4 4"], float]:
    """Carries cameras to where triangulated landmarks lie on the model of heads."""
    places = np.flatnonzero(known)
    few = places[np.linspace(0, len(places) - 1, min(_HEAD_FIT_VIEWS, len(places))).astype(int)]
    indices = head_landmarks.load_head_landmarks().indices
    uv = landmarks_px[few][:, indices, :2].astype(np.float64) / size_px
    camera = conventions.normalize_intrinsics(
        np.array([focal, focal]), np.array(size_px) / 2.0, size=size_px
    )
    fit = head_alignment.fit_head(uv, cam2world[few], np.tile(camera, (len(few), 1, 1))).alignment
    return similarity.move_cameras(cam2world, fit), float(np.median(fit.residual))


def _at_usual_distance(
    cam2world: Float[np.ndarray, "k 4 4"], known: Bool[np.ndarray, " k"], focal: float
) -> tuple[float, Float[np.ndarray, "k 4 4"]]:
    """Exchanges focal length and distance, so that the head is seen as large as before."""
    factor = _RADIUS / np.median(np.linalg.norm(cam2world[known, :3, 3], axis=1))
    moved = cam2world.copy()
    local = -np.einsum("fji,fj->fi", cam2world[:, :3, :3], cam2world[:, :3, 3])
    local[:, 2] *= factor
    moved[:, :3, 3] = -np.einsum("fij,fj->fi", cam2world[:, :3, :3], local)
    return float(focal * factor), moved
